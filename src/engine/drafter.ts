/**
 * What is guessed for each pass of one generation: asks the controller, or does as it was told, and counts what held.
 * Owns the text's n-grams and the statistics; never runs a pass.
 */
import type { DraftController, DraftSource } from '../drafting/draft-controller';
import { NgramTable } from '../drafting/ngram-table';
import { PromptLookup } from '../drafting/prompt-lookup';
import { EngineError } from '../errors';
import type { StateShape } from '../model/run-state';
import { MOST_DRAFT_TOKENS } from '../model/run-state';
import type { ResolvedSampling } from '../sampling/sampling';
import type { GrammarSession } from '../text/grammar';
import type { DraftKind, DraftOptions, GenerateStats } from './engine';
import type { Runtime } from './runtime';

const DEFAULT_DRAFT_TOKENS = 4;

export interface ResolvedDraft {
  readonly kind: DraftKind;
  readonly tokens: number;
}

/** What is fed behind the token that is known. */
export interface DraftedPass {
  readonly source: DraftSource | 'off';
  /** Tokens that the GPU is to draft. */
  readonly selfTokens: number;
  /** Guesses that are there already. */
  readonly tokenIds: readonly number[];
}

type Counts<T> = { -readonly [K in keyof T]: T[K] extends number ? number : Counts<T[K]> };

/** @throws EngineError `BAD_ARGUMENT` */
export function resolveDraft(options: DraftOptions = {}, { draftTokens }: StateShape): ResolvedDraft {
  const { kind = 'auto', tokens = DEFAULT_DRAFT_TOKENS } = options;
  if (!Number.isInteger(tokens) || tokens < 1 || tokens > MOST_DRAFT_TOKENS) {
    throw new EngineError(
      'BAD_ARGUMENT',
      `draft.tokens ${tokens} is out of range: an integer from 1 to ${MOST_DRAFT_TOKENS}`,
    );
  }
  if (options.tokens !== undefined && tokens > draftTokens) {
    throw new EngineError(
      'BAD_ARGUMENT',
      `draft.tokens ${tokens} is more than the ${draftTokens} that a pass of this model can check with its vocabulary and ` +
        'context length: give fewer, or leave it out',
    );
  }
  return { kind, tokens: Math.min(tokens, draftTokens) };
}

export class Drafter {
  readonly stats: Counts<GenerateStats['draft']> = {
    proposed: 0,
    accepted: 0,
    passes: 0,
    sources: { off: 0, self: 0, lookup: 0, table: 0, grammar: 0 },
  };
  readonly #lookup = new PromptLookup();
  readonly #table: NgramTable;

  constructor(
    private readonly options: ResolvedDraft,
    private readonly runtime: Runtime,
    private readonly controller: DraftController,
    sampling: ResolvedSampling,
  ) {
    this.#table = new NgramTable(sampling);
  }

  /** Notes the next tokens of the text, of the prompt or sampled. */
  observe(tokenIds: readonly number[]): void {
    if (this.options.kind === 'off' || this.options.kind === 'self') return;
    for (const tokenId of tokenIds) {
      this.#lookup.push(tokenId);
      this.#table.push(tokenId);
    }
  }

  /**
   * @param most guesses that can be of use.
   * @param grammar that the text obeys; null: none.
   */
  choose(most: number, grammar: GrammarSession | null): DraftedPass {
    const { kind } = this.options;
    const count = Math.min(most, this.options.tokens);
    if (kind === 'off' || count <= 0) return { source: 'off', selfTokens: 0, tokenIds: [] };
    // What the grammar allows behind the first drafted token is known when that token is: too late for the draft.
    const own = grammar ? 1 : count;
    if (kind === 'self') return { source: 'self', selfTokens: own, tokenIds: [] };
    // In the order of their worth: what has to come, a place where the same tokens stood before, counts.
    const drafts: readonly (readonly [DraftSource, readonly number[]])[] = [
      ['grammar', grammar?.getForced().slice(0, count) ?? []],
      ['lookup', this.#lookup.draft(count)],
      ['table', this.#table.draft(count)],
    ];
    const guesses = drafts.map(
      ([source, ids]) => [source, grammar ? ids.slice(0, grammar.countAllowed(ids)) : ids] as const,
    );
    if (kind === 'ngram') {
      const [source, tokenIds] = guesses.find(([, ids]) => ids.length > 0) ?? (['off', []] as const);
      return { source, selfTokens: 0, tokenIds };
    }
    const { pager, manifest } = this.runtime;
    this.controller.setSlots(pager.slots);
    // With every expert resident a draft is the model itself, at its full cost.
    const mostOwn = pager.slots < manifest.config.moe.experts ? own : 0;
    const available = new Map<DraftSource, number>([
      ...guesses.map(([source, ids]) => [source, ids.length] as const),
      ['self', mostOwn],
    ]);
    const { source, tokens } = this.controller.choose(available);
    const tokenIds = guesses.find(([guesser]) => guesser === source)?.[1] ?? [];
    return { source, selfTokens: source === 'self' ? tokens : 0, tokenIds: tokenIds.slice(0, tokens) };
  }

  /** @param acceptedRows rows of the pass that belong to the text: the known token and the guesses that held. */
  note({ source, selfTokens, tokenIds }: DraftedPass, acceptedRows: number, passMs: number): void {
    const tokens = selfTokens + tokenIds.length;
    const accepted = acceptedRows - 1;
    this.stats.passes++;
    this.stats.sources[source]++;
    this.stats.proposed += tokens;
    this.stats.accepted += accepted;
    if (this.options.kind === 'auto') this.controller.note({ source, tokens }, accepted, passMs);
  }
}
