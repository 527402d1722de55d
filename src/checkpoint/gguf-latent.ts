/**
 * Latent attention as a file keeps it: sizes by the shapes of its tensors, and the heads' matrices apart, whichever way they
 * are stored. Owns these layouts; which models have it is said by their tensors.
 */
import { assert, EngineError } from '../errors';
import type { TensorReader } from './architecture';
import type { TensorEntry } from './checkpoint';
import { getWeightFormat } from './formats';
import type { LatentConfig } from './model-config';
import type { TensorNames } from './traits';

/** Of the latents' norms, in every model known; no file says it. */
const EPSILON = 1e-6;

interface LatentSizes {
  readonly latent: LatentConfig;
  /** Dimensions of a query's end, and of the key, that turn. */
  readonly ropeDims: number;
}

/**
 * @param layers those that mix positions.
 * @throws EngineError `BAD_FILE`
 */
export function readLatent(
  sourceName: string,
  tensors: TensorReader,
  names: TensorNames,
  heads: number,
  layers: readonly number[],
): LatentSizes {
  const get = (name: string, layer: number, dimensions: number): TensorEntry =>
    tensors.get(name.replace('{i}', String(layer)), dimensions);
  const hasQueryDown = tensors.has(names.queryDown.replace('{i}', '0'));
  for (const layer of layers) {
    const at = (name: string): string => name.replace('{i}', String(layer));
    // Behind the latent, queries have another name.
    const behind = at(names.qProj).replace('attn_q.', 'attn_q_b.');
    if (tensors.has(behind)) tensors.replace(behind, { [at(names.qProj)]: tensors.get(behind, 2) });
  }
  const [rank] = get(names.kvNorm, 0, 1).shape as [number];
  const ropeDims = (get(names.kvDown, 0, 2).shape[0] as number) - rank;
  const queryDim = (get(names.qProj, 0, 2).shape[0] as number) / heads;
  const valueDim = (get(names.oProj, 0, 2).shape[1] as number) / heads;
  const plainDim = queryDim - ropeDims;
  const sizes = { rank, ropeDims, plainDim, valueDim };
  if (
    Object.values(sizes).some((size) => !Number.isInteger(size) || size < 1) ||
    ropeDims % 2 !== 0 ||
    rank % 4 !== 0
  ) {
    const found = Object.entries(sizes).map(([name, size]) => `${name} ${size}`);
    throw new EngineError(
      'BAD_FILE',
      `${sourceName}: latent attention of ${heads} heads with ${found.join(', ')}; whole numbers are needed, ropeDims even, rank ` +
        'a multiple of 4',
    );
  }
  for (const layer of layers) {
    const at = (name: string): string => name.replace('{i}', String(layer));
    const [keyUp, valueUp, joined] = [at(names.keyUp), at(names.valueUp), at(names.kvUp)];
    if (tensors.has(joined)) {
      const entry = tensors.getShaped(joined, [heads * (plainDim + valueDim), rank]);
      tensors.replace(joined, {
        [keyUp]: takeKeys(entry, heads, plainDim, valueDim),
        [valueUp]: takeValues(entry, heads, plainDim, valueDim),
      });
    } else {
      tensors.replace(keyUp, { [keyUp]: reshape(tensors.getShaped(keyUp, [heads, rank, plainDim]), heads * rank) });
      tensors.replace(valueUp, {
        [valueUp]: reshape(tensors.getShaped(valueUp, [heads, valueDim, rank]), heads * valueDim),
      });
    }
  }
  const queryRank = hasQueryDown ? (get(names.queryDown, 0, 2).shape[0] as number) : null;
  return { latent: { rank, plainDim, valueDim, queryRank, epsilon: EPSILON }, ropeDims };
}

/** Leading dimensions as one. */
function reshape(entry: TensorEntry, rows: number): TensorEntry {
  return { ...entry, shape: [rows, entry.shape.at(-1) as number] };
}

/** The heads' matrices of keys, each transposed: [heads * rank, plainDim], plain or as f32. */
function takeKeys(joined: TensorEntry, heads: number, plainDim: number, valueDim: number): TensorEntry {
  const format = getWeightFormat(joined.type);
  const rank = joined.shape[1] as number;
  const isPlain = format.blockWeights === 1;
  const valueBytes = isPlain ? format.blockBytes : 4;
  return {
    ...joined,
    // Blocks run along rows: across them a quantised matrix keeps its exact values only as f32.
    type: isPlain ? joined.type : 'f32',
    shape: [heads * rank, plainDim],
    getSlab: assembleWhole(joined, (file) => {
      const floats = isPlain ? null : format.dequantizeFile(file, heads * (plainDim + valueDim) * rank);
      const values = floats ? new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength) : file;
      const out = new Uint8Array(heads * rank * plainDim * valueBytes);
      let at = 0;
      for (let head = 0; head < heads; head++) {
        for (let i = 0; i < rank; i++) {
          for (let dim = 0; dim < plainDim; dim++, at += valueBytes) {
            const from = ((head * (plainDim + valueDim) + dim) * rank + i) * valueBytes;
            for (let byte = 0; byte < valueBytes; byte++) out[at + byte] = values[from + byte] as number;
          }
        }
      }
      return out;
    }),
  };
}

/** The heads' matrices of values: [heads * valueDim, rank], in the file's type. */
function takeValues(joined: TensorEntry, heads: number, plainDim: number, valueDim: number): TensorEntry {
  const format = getWeightFormat(joined.type);
  const rowBytes = ((joined.shape[1] as number) / format.blockWeights) * format.blockBytes;
  return {
    ...joined,
    shape: [heads * valueDim, joined.shape[1] as number],
    getSlab: assembleWhole(joined, (file) => {
      const out = new Uint8Array(heads * valueDim * rowBytes);
      for (let head = 0; head < heads; head++) {
        const start = (head * (plainDim + valueDim) + plainDim) * rowBytes;
        out.set(file.subarray(start, start + valueDim * rowBytes), head * valueDim * rowBytes);
      }
      return out;
    }),
  };
}

function assembleWhole(entry: TensorEntry, make: (file: Uint8Array) => Uint8Array): TensorEntry['getSlab'] {
  return (index, count) => {
    assert(count === 1, `${entry.name} is read as one piece`);
    const { ranges, assemble } = entry.getSlab(index, count);
    return {
      ranges,
      assemble: async (bytes, signal) => make(assemble ? await assemble(bytes, signal) : (bytes[0] as Uint8Array)),
    };
  };
}
