/**
 * Sampling options -> words of the kernel's uniform; logits -> log-probabilities. Pure; the token itself is chosen on the GPU.
 */
import { EngineError } from '../errors';
import type { UniformWord } from '../gpu/uniforms';
import { LARGEST_F32 } from '../kernels/command';

export interface ResolvedSampling {
  /** 0: greedy. */
  readonly temperature: number;
  /** 0: all. */
  readonly topK: number;
  /** 1: all. */
  readonly topP: number;
  /** 0: all. */
  readonly minP: number;
  /** 32-bit unsigned. */
  readonly seed: number;
}

/** @throws EngineError `BAD_ARGUMENT` naming the option, its value and its range. */
export function resolveSampling(
  options: { readonly [K in keyof ResolvedSampling]?: ResolvedSampling[K] | undefined } = {},
): ResolvedSampling {
  return {
    temperature: check('temperature', options.temperature ?? 0, 0, 100),
    topK: check('topK', options.topK ?? 0, 0, 2 ** 31, true),
    topP: check('topP', options.topP ?? 1, 0, 1),
    minP: check('minP', options.minP ?? 0, 0, 1),
    seed: check('seed', options.seed ?? 0, 0, 2 ** 32 - 1, true),
  };
}

function check(name: string, value: number, low: number, high: number, integer = false): number {
  if (!(value >= low && value <= high) || (integer && !Number.isInteger(value))) {
    throw new EngineError(
      'BAD_ARGUMENT',
      `${name} ${value} is out of range: ${integer ? 'an integer' : 'a number'} from ${low} to ${high}`,
    );
  }
  return value;
}

/**
 * The uniform of shaders/sample_token.wgsl.
 * @param position of the token to sample in its sequence.
 */
export function getSamplingWords(sampling: ResolvedSampling, vocabSize: number, position: number): UniformWord[] {
  return [
    { f32: sampling.temperature },
    sampling.topK === 0 ? vocabSize : Math.min(sampling.topK, vocabSize),
    { f32: sampling.topP },
    { f32: sampling.minP === 0 ? -LARGEST_F32 : Math.log(sampling.minP) },
    sampling.seed,
    position,
  ];
}

/**
 * Natural log-probabilities over the whole vocabulary, in double precision.
 * @returns the chosen token's, and the `count` largest, ties to the lower id.
 */
export function computeLogprobs(
  logits: Float32Array,
  tokenId: number,
  count: number,
): { logprob: number; top: Array<readonly [tokenId: number, logprob: number]> } {
  let highest = -Infinity;
  for (const logit of logits) if (logit > highest) highest = logit;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - highest);
  const logSum = Math.log(sum);
  const ids = findLargest(logits, count);
  return {
    logprob: (logits[tokenId] as number) - highest - logSum,
    top: ids.map((id) => [id, (logits[id] as number) - highest - logSum] as const),
  };
}

/** From here on sorting everything is as quick as inserting. */
const MANY = 64;

/** Ids of the `count` largest, best first, ties to the lower id: in one pass, since this runs for every token. */
function findLargest(logits: Float32Array, count: number): number[] {
  if (count === 0) return [];
  if (count >= MANY || count >= logits.length) {
    return [...logits.keys()].sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b).slice(0, count);
  }
  const ids: number[] = [];
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number;
    if (ids.length === count && !(logit > (logits[ids[count - 1] as number] as number))) continue;
    let at = Math.min(ids.length, count - 1);
    for (; at > 0 && (logits[ids[at - 1] as number] as number) < logit; at--) ids[at] = ids[at - 1] as number;
    ids[at] = id;
  }
  return ids;
}
