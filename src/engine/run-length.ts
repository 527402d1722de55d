/**
 * How many tokens go into one submission, each behind the one before, up to the first page that is missing. It spares the round
 * trip between them; but pages are forecast best for a token that is known, so tokens that begin behind another may have more
 * faults. Which weighs more is counted, for tokens alone and one behind the other. Pure book-keeping; touches speed only, never a
 * result.
 */
import { DecayedMean } from '../drafting/decayed-mean';
import { MOST_DRAFT_TOKENS } from '../model/run-state';

/** Tokens come in bursts no longer than this, lest a text that is read as it comes should stutter. */
const LONGEST_BURST_MS = 100;
/** What an old token counts after each new one. */
const KEEP = 0.97;
/** Tokens until a way's figures are believed: of the way that is the first one anyhow, and of one that costs time where it is worse. */
const LEAST_ALONE = 16;
const LEAST_TRIED = 4;
/** A token that begins behind another is not forecast before it begins: where that brings in so many pages, they would be missed. */
const MOST_FORECAST_PAGES = 1;
/** Going on has to spare this share of what tokens alone cost beside their arithmetic: a trial is short, and noise must not decide. */
const LEAST_GAIN = 0.15;
/** The way that is not in use is tried again after so many tokens; then after twice as many, and so on. */
const FIRST_PAUSE = 64;
const LONGEST_PAUSE = 4096;
/** A fault that took this many times what others do says something of the machine, not of faults. */
const OUTLIER = 3;

type Way = 'alone' | 'on';

/** Per token that went one way. */
class WayRecord {
  readonly faults = new DecayedMean(KEEP);
  /** Round trips that no fault was served in. */
  readonly smoothTrips = new DecayedMean(KEEP);
  readonly unreached = new DecayedMean(KEEP);
  readonly forecastPages = new DecayedMean(KEEP);

  get tokens(): number {
    return this.faults.samples;
  }
}

/** What decides about the next submission, beside its costs. */
export interface RunState {
  /** Most tokens that can be of use. */
  readonly most: number;
  /** Every page is resident: nothing can stop a run. */
  readonly isWhole: boolean;
  readonly slots: number;
}

export interface RunCosts {
  /** A token that runs; null: not known yet. */
  readonly tokenMs: number | null;
  /** A submission and its read-back. */
  readonly roundTripMs: number;
  /** A token that is not come to: its kernels find the fault word and return. */
  readonly deadTokenMs: number;
}

/** What became of a submission, and of those that its faults led to. */
export interface RunOutcome {
  /** Tokens of the submission. */
  readonly count: number;
  /** Those that came to their end. */
  readonly ended: number;
  readonly faults: number;
  readonly roundTrips: number;
  /** Tokens that were dispatched and not come to. */
  readonly unreached: number;
  /** Pages that its forecast uploaded before it began. */
  readonly forecastPages: number;
  readonly passMs: number;
}

export class RunLength {
  #records: Record<Way, WayRecord> = { alone: new WayRecord(), on: new WayRecord() };
  /** Of tokens that began behind another: those that came to their end without a fault. */
  #free = new DecayedMean(KEEP);
  /** Milliseconds of a fault: what it waits for, reads, uploads and runs twice or for nothing. */
  #faultMs = new DecayedMean(KEEP);
  /** The way that is being tried, for so many tokens more. */
  #trial: { readonly way: Way; left: number } | null = null;
  #pause = FIRST_PAUSE;
  #rest = FIRST_PAUSE;
  #slots: number | null = null;

  /** @returns tokens of the next submission. */
  choose({ most, isWhole, slots }: RunState, costs: RunCosts): number {
    if (slots !== this.#slots) this.#forget(slots);
    const limit = costs.tokenMs === null ? 1 : Math.min(most, Math.floor(LONGEST_BURST_MS / costs.tokenMs));
    if (limit < 2) return 1;
    if (isWhole) return limit;
    return this.#chooseWay(costs) === 'on' ? Math.min(limit, this.#getLength(costs)) : 1;
  }

  note(outcome: RunOutcome, { tokenMs, roundTripMs }: RunCosts): void {
    const { count, ended, faults, roundTrips, unreached, forecastPages, passMs } = outcome;
    const way = count > 1 ? 'on' : 'alone';
    const record = this.#records[way];
    record.faults.note(faults, ended);
    record.smoothTrips.note(Math.max(0, roundTrips - faults), ended);
    record.unreached.note(unreached, ended);
    record.forecastPages.note(forecastPages, ended);
    // Behind the first fault nothing was put to the test.
    if (way === 'on') this.#free.note(ended - 1, Math.min(count - 1, ended));
    else if (faults > 0 && tokenMs !== null) {
      const sampleMs = Math.max(roundTripMs, (passMs - tokenMs - roundTripMs) / faults);
      const most = this.#faultMs.samples === 0 ? sampleMs : this.#faultMs.value * OUTLIER;
      this.#faultMs.note(Math.min(sampleMs, most));
    }
    this.#rest -= ended;
    if (this.#trial?.way === way) this.#trial.left -= ended;
  }

  /** What a token costs beside its arithmetic. */
  #getCostMs(way: Way, { roundTripMs, deadTokenMs }: RunCosts): number {
    const { faults, smoothTrips, unreached } = this.#records[way];
    const faultMs = Math.max(roundTripMs, this.#faultMs.value);
    return faults.value * faultMs + smoothTrips.value * roundTripMs + unreached.value * deadTokenMs;
  }

  /** Two, and as many more as are likelier to spare their round trip than to cost what is dead. */
  #getLength({ roundTripMs, deadTokenMs }: RunCosts): number {
    const free = this.#free.value;
    let length = 2;
    for (let reached = free; length < MOST_DRAFT_TOKENS; reached *= free) {
      if (reached * roundTripMs <= (1 - reached) * deadTokenMs) break;
      length++;
    }
    return length;
  }

  #chooseWay(costs: RunCosts): Way {
    const { alone, on } = this.#records;
    if (alone.tokens < LEAST_ALONE || alone.forecastPages.value >= MOST_FORECAST_PAGES) return 'alone';
    const aloneMs = this.#getCostMs('alone', costs);
    // The most that going on can spare is the round trip between tokens.
    if (costs.roundTripMs < aloneMs * LEAST_GAIN) return 'alone';
    if (on.tokens < LEAST_TRIED) return 'on';
    if (this.#trial && this.#trial.left > 0) return this.#trial.way;
    const isSpared = this.#getCostMs('on', costs) < aloneMs * (1 - LEAST_GAIN);
    const best: Way = isSpared ? 'on' : 'alone';
    if (this.#rest > 0) return best;
    if (this.#trial) this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
    this.#rest = this.#pause + LEAST_TRIED;
    this.#trial = { way: best === 'on' ? 'alone' : 'on', left: LEAST_TRIED };
    return this.#trial.way;
  }

  #forget(slots: number): void {
    this.#slots = slots;
    this.#records = { alone: new WayRecord(), on: new WayRecord() };
    this.#free = new DecayedMean(KEEP);
    this.#faultMs = new DecayedMean(KEEP);
    this.#trial = null;
    this.#pause = FIRST_PAUSE;
    this.#rest = FIRST_PAUSE;
  }
}
