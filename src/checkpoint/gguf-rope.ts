/** Rotary embedding as a GGUF file's keys describe it. Owns the keys; src/model/rope.ts has the formulas. */
import { EngineError } from '../errors';
import type { Checkpoint } from './checkpoint';
import type { RopeConfig, RopeScaling } from './model-config';

const ACCEPTED = 'none, linear, yarn, and longrope by its tensors of factors';

/** @throws EngineError `BAD_FILE`, `UNSUPPORTED` */
export function readGgufRope(
  gguf: Checkpoint,
  architecture: string,
  pairing: RopeConfig['pairing'],
  headDim: number,
  {
    truncatesYarn = true,
    hasFactors = false,
    hasYarnMagnitude = false,
  }: { readonly truncatesYarn?: boolean; readonly hasFactors?: boolean; readonly hasYarnMagnitude?: boolean },
): RopeConfig {
  const { metadata } = gguf;
  const dimsKey = `${architecture}.rope.dimension_count`;
  const dims = metadata.getInteger(dimsKey, { min: 2, max: headDim, default: headDim });
  if (dims % 2 !== 0) {
    throw new EngineError('BAD_FILE', `${gguf.sourceName}: "${dimsKey}" is ${dims}; an even number is needed`);
  }
  return {
    theta: metadata.getNumber(`${architecture}.rope.freq_base`, { min: 1, max: 1e12, default: 10_000 }),
    dims,
    pairing,
    scaling: hasFactors
      ? readLongrope(gguf, architecture)
      : readScaling(gguf, architecture, truncatesYarn, hasYarnMagnitude),
  };
}

/** Divisors lie in tensors; llama.cpp's converter writes the factor on cosines and sines of every length. */
function readLongrope({ metadata }: Checkpoint, architecture: string): RopeScaling {
  const prefix = `${architecture}.rope.scaling`;
  const magnitude = metadata.getNumber(`${prefix}.attn_factor`, { min: 0, max: 1e3, default: 1 });
  const originalLength = metadata.getInteger(`${prefix}.original_context_length`, { min: 1, max: 2 ** 24 });
  return { kind: 'longrope', originalLength, magnitude, longMagnitude: magnitude };
}

function readScaling(
  { metadata, sourceName }: Checkpoint,
  architecture: string,
  truncate: boolean,
  hasMagnitude: boolean,
): RopeScaling | null {
  const prefix = `${architecture}.rope.scaling`;
  const kind = metadata.getString(`${prefix}.type`, 'none');
  const getFactor = (): number => metadata.getNumber(`${prefix}.factor`, { min: 1, max: 1e6 });
  switch (kind) {
    case 'none':
      return null;
    case 'linear':
      return { kind, factor: getFactor() };
    case 'yarn': {
      const factor = getFactor();
      const magnitude = metadata.getNumber(`${prefix}.attn_factor`, { min: 0, max: 1e3, default: 1 });
      return {
        kind,
        factor,
        originalLength: metadata.getInteger(`${prefix}.original_context_length`, { min: 1, max: 2 ** 24 }),
        betaFast: metadata.getNumber(`${prefix}.yarn_beta_fast`, { min: 0, max: 1e6, default: 32 }),
        betaSlow: metadata.getNumber(`${prefix}.yarn_beta_slow`, { min: 0, max: 1e6, default: 1 }),
        truncate,
        magnitude: hasMagnitude ? magnitude : magnitude * (0.1 * Math.log(factor) + 1),
      };
    }
    default:
      throw new EngineError(
        'UNSUPPORTED',
        `${sourceName}: RoPE scaling "${kind.slice(0, 80)}" ("${prefix}.type"); accepted: ${ACCEPTED}`,
      );
  }
}
