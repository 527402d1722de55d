/**
 * What a caller wants changed in the logits before a token is chosen: penalties for what was generated, biases, and the
 * mask of a grammar. Pure; the change itself is made on the GPU (shaders/adjust_logits.wgsl).
 */
import { assert, EngineError } from '../errors';
import { MOST_BIASED_IDS } from '../model/run-state';

export interface ResolvedLogitOptions {
  readonly frequencyPenalty: number;
  readonly presencePenalty: number;
  readonly logitBias: ReadonlyMap<number, number>;
}

/** The changes to one row of logits. */
export interface LogitChanges {
  /** Distinct ids, none of which the mask forbids. */
  readonly deltas: readonly (readonly [tokenId: number, delta: number])[];
  /** Bit i of word w allows id 32 w + i; null allows all. */
  readonly mask: Uint32Array<ArrayBuffer> | null;
}

/** @throws EngineError `BAD_ARGUMENT` naming the option, its value and its range. */
export function resolveLogitOptions(
  options: {
    readonly frequencyPenalty?: number;
    readonly presencePenalty?: number;
    readonly logitBias?: Readonly<Record<number, number>>;
  },
  vocabSize: number,
): ResolvedLogitOptions {
  const logitBias = new Map(Object.entries(options.logitBias ?? {}).map(([id, bias]) => [Number(id), bias]));
  if (logitBias.size > MOST_BIASED_IDS) {
    throw new EngineError('BAD_ARGUMENT', `logitBias has ${logitBias.size} token ids; give at most ${MOST_BIASED_IDS}`);
  }
  for (const [id, bias] of logitBias) {
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
      throw new EngineError(
        'BAD_ARGUMENT',
        `logitBias has token id ${id}, which is out of range: 0 to ${vocabSize - 1} with this model`,
      );
    }
    checkRange(`logitBias of token ${id}`, bias, 100);
  }
  return {
    frequencyPenalty: checkRange('frequencyPenalty', options.frequencyPenalty ?? 0, 2),
    presencePenalty: checkRange('presencePenalty', options.presencePenalty ?? 0, 2),
    logitBias,
  };
}

function checkRange(name: string, value: number, most: number): number {
  if (typeof value !== 'number' || !(Math.abs(value) <= most)) {
    throw new EngineError(
      'BAD_ARGUMENT',
      `${name} is ${value}, which is out of range: a number from ${-most} to ${most}`,
    );
  }
  return value;
}

/**
 * Penalties and biases for the next token of a sequence; the prompt is not penalised, only what was generated.
 * logit -= frequencyPenalty · count + presencePenalty · [count > 0]; source: OpenAI's API reference.
 */
export class LogitRules {
  readonly #counts = new Map<number, number>();

  constructor(private readonly options: ResolvedLogitOptions) {}

  /** Notes a generated token. */
  count(tokenId: number): void {
    this.#counts.set(tokenId, (this.#counts.get(tokenId) ?? 0) + 1);
  }

  /** Whether logits stay as they are whatever is generated, masks aside. */
  get isNeutral(): boolean {
    const { frequencyPenalty, presencePenalty, logitBias } = this.options;
    return frequencyPenalty === 0 && presencePenalty === 0 && logitBias.size === 0;
  }

  /**
   * Null when nothing changes, so that the plain path is taken.
   * @param guesses tokens that are taken to follow what was counted.
   */
  getChanges(mask: Uint32Array<ArrayBuffer> | null, guesses: readonly number[] = []): LogitChanges | null {
    const { frequencyPenalty, presencePenalty, logitBias } = this.options;
    const deltas = new Map(logitBias);
    if (frequencyPenalty !== 0 || presencePenalty !== 0) {
      const counts = new Map(this.#counts);
      for (const id of guesses) counts.set(id, (counts.get(id) ?? 0) + 1);
      for (const [id, count] of counts) {
        deltas.set(id, (deltas.get(id) ?? 0) - frequencyPenalty * count - presencePenalty);
      }
    }
    const isAllowed = (id: number): boolean => mask === null || (((mask[id >> 5] ?? 0) >>> (id & 31)) & 1) === 1;
    const kept = [...deltas].filter(([id, delta]) => delta !== 0 && isAllowed(id));
    return kept.length === 0 && mask === null ? null : { deltas: kept, mask };
  }
}

/** The words of `changes` in front of the mask. */
export function encodeLogitChanges({ deltas, mask }: LogitChanges, capacity: number): Uint32Array<ArrayBuffer> {
  assert(deltas.length <= capacity, `${deltas.length} changed logits fit into ${capacity}`);
  const words = new Uint32Array(2 + 2 * deltas.length);
  const floats = new Float32Array(words.buffer);
  words[0] = deltas.length;
  words[1] = mask ? 1 : 0;
  for (const [i, [id, delta]] of deltas.entries()) {
    words[2 + 2 * i] = id;
    floats[3 + 2 * i] = delta;
  }
  return words;
}
