/**
 * Chooses what to guess for each pass, from what guessing brought so far: how often the guess at each place held, and what
 * passes with and without guesses cost on this device. Pure book-keeping: the clock is the caller's.
 *
 * With e(n) = 1 + a1 + a1 a2 + … tokens expected of n guesses and t(n) = plain + n * extra milliseconds for the pass, it takes
 * the source and the n of the largest e(n) / t(n), and none at all where a plain pass is as good. What is not worth it now is
 * tried again ever more rarely, with one guess, which bounds what finding out costs. A guess of the text or of a grammar costs
 * its row of the pass, whichever it is from, so all of them share one price, and they are tried first: where a row is nearly a
 * pass no guess can pay, though it held, and a drafted token, which costs its row and the draft, even less.
 * The idea of choosing length by measured acceptance: Zhang et al., Draft & Verify, 2024; ADED, 2024.
 */

import { DecayedMean } from './decayed-mean';

/** Where guesses come from: the resident experts; the text itself, by place or by frequency; what a grammar leaves no choice in. */
export type DraftSource = 'self' | 'lookup' | 'table' | 'grammar';

export interface DraftChoice {
  readonly source: DraftSource | 'off';
  /** 0 with `off`. */
  readonly tokens: number;
}

/** What an old sample counts after each new one. */
const KEEP = 0.94;
/** Passes of a kind until its figures are believed. */
const LEAST_SAMPLES = 2;
/** A guess at a place that has seen nothing holds as often as one at the place before, on the word of so many guesses. */
const PRIOR_GUESSES = 2;
/** The first place holds so often before anything is known: a guess that is nearly always wrong is soon found out. */
const FIRST_ACCEPTANCE = 0.7;
/** Guessing has to promise this much more than a plain pass, lest noise decide. */
const LEAST_GAIN = 1.04;
/** A source, or the plain pass, that is not in use is tried again after so many passes; then after twice as many, and so on. */
const FIRST_PAUSE = 48;
const LONGEST_PAUSE = 1536;
/** What was measured before a rest counts so much less after it. */
const STALE_SHARE = 0.2;
/** A trial that took less than this share of what was expected is repeated after a few passes. */
const PROMISING_SHARE = 0.75;
const HASTY_PAUSE = 3;
/** A pass that took this many times what was expected says something of the machine, not of the choice. */
const OUTLIER = 3;
/** A second sample below this share of the first stands alone: the first pass of a kind may have compiled what it ran. */
const WARM_SHARE = 0.5;
/** A token drafted by the resident experts takes at least this share of a plain pass: it runs the same layers, without the waits. */
const LEAST_DRAFT_SHARE = 0.25;
/** The first draft waits so many passes for the text to show what a row costs. */
const DRAFT_PATIENCE = 24;
/** No pass is taken to be shorter than this share of a plain one. */
const LEAST_PASS_SHARE = 0.5;

/** Held guesses and guesses at one place, newer ones counting more. */
interface Place {
  held: number;
  guessed: number;
}

/** What is known of a source. */
class SourceRecord {
  readonly #places: Place[] = [];
  readonly turn = new Turn();

  /** @param extraMs milliseconds that a guess adds to a pass; sources whose guesses cost the same share it. */
  constructor(readonly extraMs: PassTime) {}

  noteGuesses(tokens: number, accepted: number): void {
    // Behind the first guess that failed nothing was put to the test.
    for (let i = 0; i < Math.min(tokens, accepted + 1); i++) {
      const place = this.#places[i] ?? { held: 0, guessed: 0 };
      this.#places[i] = place;
      place.held = place.held * KEEP + (i < accepted ? 1 : 0);
      place.guessed = place.guessed * KEEP + 1;
    }
  }

  /** Tokens that a pass with so many guesses is expected to give. */
  getExpectedTokens(guesses: number): number {
    let expected = 1;
    let reached = 1;
    let share = FIRST_ACCEPTANCE;
    for (let i = 0; i < guesses; i++) {
      const { held, guessed } = this.#places[i] ?? { held: 0, guessed: 0 };
      share = (held + share * PRIOR_GUESSES) / (guessed + PRIOR_GUESSES);
      reached *= share;
      expected += reached;
    }
    return expected;
  }
}

/** Milliseconds of a kind of pass, or of a guess. */
class PassTime extends DecayedMean {
  constructor() {
    super(KEEP);
  }

  override note(ms: number): void {
    if (this.samples === 1 && ms < this.value * WARM_SHARE) this.age(0);
    super.note(ms);
  }
}

/** When something that is not in use is tried again. */
class Turn {
  #pause = FIRST_PAUSE;
  #rest = FIRST_PAUSE;

  get isDue(): boolean {
    return this.#rest <= 0;
  }

  pass(): void {
    this.#rest--;
  }

  /** It was chosen on its merits. */
  use(): void {
    this.#pause = FIRST_PAUSE;
    this.#rest = FIRST_PAUSE;
  }

  /** It was tried for the sake of knowing; a trial that promises something is soon followed by the next. */
  try(isPromising: boolean): void {
    this.#pause = isPromising ? HASTY_PAUSE : Math.min(this.#pause * 2, LONGEST_PAUSE);
    this.#rest = this.#pause;
  }
}

const OFF: DraftChoice = { source: 'off', tokens: 0 };

export class DraftController {
  #plainMs = new PassTime();
  #plainTurn = new Turn();
  #sources = new Map<DraftSource, SourceRecord>();
  /** Milliseconds that a row more adds to a pass, where nothing has to be drafted for it. */
  #rowMs = new PassTime();
  #slots: number | null = null;
  /** The latest choice was made for the sake of knowing. */
  #isTrial = false;

  /** Passes cost and drafts hold otherwise with another number of slots: what was measured with others is forgotten. */
  setSlots(slots: number): void {
    if (slots === this.#slots) return;
    this.#slots = slots;
    this.#plainMs = new PassTime();
    this.#plainTurn = new Turn();
    this.#sources = new Map();
    this.#rowMs = new PassTime();
  }

  /** @param available most tokens that each source can guess now; 0 where it may later, left out where it never can. */
  choose(available: ReadonlyMap<DraftSource, number>): DraftChoice {
    this.#isTrial = false;
    if (this.#plainMs.samples < LEAST_SAMPLES) return OFF;
    const offered = [...available].filter(([, tokens]) => tokens > 0);
    for (const [source] of offered) {
      const { extraMs, turn } = this.#getRecord(source);
      if (extraMs.samples >= LEAST_SAMPLES && !turn.isDue) continue;
      if (source === 'self' && !this.#mayDraftPay(available)) continue;
      this.#isTrial = turn.isDue;
      return { source, tokens: 1 };
    }
    if (this.#plainTurn.isDue) {
      this.#isTrial = true;
      return OFF;
    }
    let best = OFF;
    let bestSpeed = LEAST_GAIN / this.#plainMs.value;
    for (const [source, most] of offered) {
      if (this.#getRecord(source).extraMs.samples < LEAST_SAMPLES) continue;
      for (let tokens = 1; tokens <= most; tokens++) {
        const speed = this.#getRecord(source).getExpectedTokens(tokens) / this.#getPassMs(source, tokens);
        if (speed <= bestSpeed) continue;
        best = { source, tokens };
        bestSpeed = speed;
      }
    }
    if (best.source === 'off') this.#plainTurn.use();
    else this.#getRecord(best.source).turn.use();
    return best;
  }

  /** @param accepted guesses that held. @param passMs what the whole pass took, drafting included. */
  note({ source, tokens }: DraftChoice, accepted: number, passMs: number): void {
    this.#plainTurn.pass();
    for (const { turn } of this.#sources.values()) turn.pass();
    const record = source === 'off' ? null : this.#getRecord(source);
    const mean = record?.extraMs ?? this.#plainMs;
    const expectedMs = source === 'off' ? this.#plainMs.value : this.#getPassMs(source, tokens);
    if (this.#isTrial) {
      mean.age(STALE_SHARE);
      for (const turn of this.#getTriedTurns(record)) turn.try(passMs < expectedMs * PROMISING_SHARE);
    }
    const boundMs = mean.samples < LEAST_SAMPLES ? passMs : Math.min(passMs, expectedMs * OUTLIER);
    mean.note(record ? (boundMs - this.#plainMs.value) / tokens : boundMs);
    record?.noteGuesses(tokens, accepted);
  }

  /** Where no guess of the text can pay, a trial shows what the next source's would: that a row is still too dear. */
  #getTriedTurns(record: SourceRecord | null): Turn[] {
    if (!record) return [this.#plainTurn];
    if (record.extraMs !== this.#rowMs || this.#mayPay(this.#rowMs.value)) return [record.turn];
    return [...this.#sources.values()].filter(({ extraMs }) => extraMs === this.#rowMs).map(({ turn }) => turn);
  }

  /** Whether guesses that cost so much might pay, though every one of them held. */
  #mayPay(extraMs: number): boolean {
    return extraMs * LEAST_GAIN < this.#plainMs.value;
  }

  /** Not where a draft's row and the least that the draft itself can take are a plain pass. */
  #mayDraftPay(available: ReadonlyMap<DraftSource, number>): boolean {
    if (this.#rowMs.samples < LEAST_SAMPLES) {
      return available.size === 1 || this.#plainMs.samples + this.#rowMs.samples >= DRAFT_PATIENCE;
    }
    return this.#mayPay(this.#rowMs.value + this.#plainMs.value * LEAST_DRAFT_SHARE);
  }

  /** Never less than a small part of a plain pass: a difference of two measurements may come out at anything. */
  #getPassMs(source: DraftSource, tokens: number): number {
    const plainMs = this.#plainMs.value;
    return Math.max(plainMs * LEAST_PASS_SHARE, plainMs + tokens * this.#getRecord(source).extraMs.value);
  }

  #getRecord(source: DraftSource): SourceRecord {
    let record = this.#sources.get(source);
    if (!record) {
      record = new SourceRecord(source === 'self' ? new PassTime() : this.#rowMs);
      this.#sources.set(source, record);
    }
    return record;
  }
}
