/** CPU reference of shaders/sample_token.wgsl: the noise is src/sampling/gumbel.ts, everything else is here, in f64. */
import { getGumbelNoise } from '../../src/sampling/gumbel';

export interface SamplingParameters {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly seed: number;
}

export interface Sampled {
  readonly token: number;
  /** Ids that passed the filters, ascending. */
  readonly kept: readonly number[];
  /** Best score minus the second best among the kept: below the float tolerance the kernel may choose the other. */
  readonly margin: number;
  /** Distance of the kept probability from the top-p border, and of log p from the min-p border; the smaller. */
  readonly filterDistance: number;
}

/** logits [vocab] of one row; `position` is that of the token to sample. */
export function sampleToken(parameters: SamplingParameters, logits: Float32Array, position: number): Sampled {
  const ids = [...logits.keys()];
  const highest = logits.reduce((a, b) => Math.max(a, b));
  const { temperature, topK, topP, minP, seed } = parameters;
  if (temperature === 0) {
    const token = logits.indexOf(highest);
    return { token, kept: ids, margin: Number.POSITIVE_INFINITY, filterDistance: Number.POSITIVE_INFINITY };
  }
  const logP = Array.from(logits, (logit) => (logit - highest) / Math.fround(temperature));
  let kept = ids;
  let filterDistance = Number.POSITIVE_INFINITY;
  if (topK < logits.length) {
    const border = [...logits].sort((a, b) => b - a)[Math.max(1, topK) - 1]!;
    kept = kept.filter((id) => logits[id]! >= border);
  }
  if (topP < 1) {
    const total = kept.reduce((sum, id) => sum + Math.exp(logP[id]!), 0);
    const falling = [...kept].sort((a, b) => logits[b]! - logits[a]!);
    let mass = 0;
    let border = highest;
    falling.every((id, rank) => {
      mass += Math.exp(logP[id]!);
      border = logits[id]!;
      // Equal logits stay or go together.
      if (rank + 1 < falling.length && logits[falling[rank + 1]!] === border) return true;
      filterDistance = Math.min(filterDistance, Math.abs(mass / total - topP));
      return mass < total * topP;
    });
    kept = kept.filter((id) => logits[id]! >= border);
  }
  if (minP > 0) {
    const border = Math.log(minP);
    for (const id of kept) if (logP[id]! < 0) filterDistance = Math.min(filterDistance, Math.abs(logP[id]! - border));
    kept = kept.filter((id) => logits[id] === highest || logP[id]! >= border);
  }
  let token = -1;
  let best = Number.NEGATIVE_INFINITY;
  let second = Number.NEGATIVE_INFINITY;
  for (const id of kept) {
    const score = logP[id]! + getGumbelNoise(seed, position, id);
    if (score > best) {
      second = best;
      best = score;
      token = id;
    } else if (score > second) {
      second = score;
    }
  }
  return { token, kept, margin: best - second, filterDistance };
}
