/**
 * Rotary embedding as a table of cosines and sines, with every way of stretching it. Pure.
 * Made on the CPU in double precision: WGSL promises sin and cos only to 2^-11.
 */
import type { RopeConfig, RopeScaling } from '../checkpoint/model-config';
import { assert } from '../errors';

/**
 * [context, dims / 2] of (cos, sin).
 * @param factors divisors of the frequencies, [dims / 2]: for `longrope`.
 * Source: Su et al., RoFormer, arXiv 2104.09864; of the stretched forms at their functions.
 */
export function computeRope(
  rope: RopeConfig,
  contextLength: number,
  factors: Float32Array | null = null,
): Float32Array<ArrayBuffer> {
  const half = rope.dims / 2;
  const frequencies = computeFrequencies(rope, factors);
  const table = new Float32Array(contextLength * rope.dims);
  for (let position = 0; position < contextLength; position++) {
    const magnitude = getMagnitude(rope.scaling, position);
    for (let d = 0; d < half; d++) {
      const angle = position * (frequencies[d] as number);
      const at = (position * half + d) * 2;
      table[at] = magnitude * Math.cos(angle);
      table[at + 1] = magnitude * Math.sin(angle);
    }
  }
  return table;
}

/** Radians per position of every pair of dimensions. */
function computeFrequencies({ theta, dims, scaling }: RopeConfig, factors: Float32Array | null): number[] {
  const plain = Array.from({ length: dims / 2 }, (_, d) => theta ** ((-2 * d) / dims));
  switch (scaling?.kind) {
    case undefined:
      return plain;
    case 'linear':
      return plain.map((frequency) => frequency / scaling.factor);
    case 'yarn':
      return stretchYarn(plain, theta, dims, scaling);
    case 'llama3':
      return plain.map((frequency) => stretchLlama3(frequency, scaling));
    case 'longrope':
      assert(factors && factors.length >= dims / 2, 'longrope has a factor per pair of dimensions');
      return plain.map((frequency, d) => frequency / (factors[d] as number));
  }
}

function getMagnitude(scaling: RopeScaling | null, position: number): number {
  if (scaling?.kind === 'yarn') return scaling.magnitude;
  // Each position by its own length, as a decoder without look-ahead sees it.
  if (scaling?.kind === 'longrope')
    return position < scaling.originalLength ? scaling.magnitude : scaling.longMagnitude;
  return 1;
}

/** Slow dimensions are interpolated, fast ones kept, with a ramp between (Peng et al., YaRN, arXiv 2309.00071). */
function stretchYarn(
  plain: readonly number[],
  theta: number,
  dims: number,
  { factor, originalLength, betaFast, betaSlow, truncate }: Extract<RopeScaling, { kind: 'yarn' }>,
): number[] {
  // The dimension that makes this many turns over the original length.
  const getDimension = (turns: number): number =>
    (dims * Math.log(originalLength / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [start, end] = [getDimension(betaFast), getDimension(betaSlow)];
  const low = Math.max(truncate ? Math.floor(start) : start, 0);
  const high = Math.min(truncate ? Math.ceil(end) : end, dims - 1);
  const span = high === low ? 0.001 : high - low;
  return plain.map((frequency, d) => {
    const interpolated = Math.min(1, Math.max(0, (d - low) / span));
    return (frequency / factor) * interpolated + frequency * (1 - interpolated);
  });
}

/** Llama 3.1: by wave length, with a smooth step between two of them. */
function stretchLlama3(
  frequency: number,
  { factor, lowFactor, highFactor, originalLength }: Extract<RopeScaling, { kind: 'llama3' }>,
): number {
  const turns = (originalLength * frequency) / (2 * Math.PI);
  const kept = Math.min(1, Math.max(0, (turns - lowFactor) / (highFactor - lowFactor)));
  return (1 - kept) * (frequency / factor) + kept * frequency;
}
