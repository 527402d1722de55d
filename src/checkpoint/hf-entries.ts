/**
 * Directory entries of tensors in safetensors files, also of those that lie otherwise than in a GGUF file: experts apart,
 * gate and up in alternate columns, matrices transposed, MXFP4 as two tensors. Owns these layouts; knows no names.
 */
import { assert, EngineError } from '../errors';
import { type SourceRange, sliceRange, type TensorEntry } from './checkpoint';
import { getWeightFormat } from './formats';
import type { WeightType } from './model-config';
import type { SafetensorsEntry } from './safetensors';

/** A tensor with its place in the joined source. */
export type PlacedTensor = SafetensorsEntry;

const WEIGHT_TYPES: Readonly<Record<string, WeightType>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };

export function createEntry(sourceName: string, tensor: PlacedTensor): TensorEntry {
  const { name, shape, offsetBytes, sizeBytes } = tensor;
  if (shape.length === 0 || sizeBytes === 0) {
    throw new EngineError('BAD_FILE', `${sourceName}: tensor "${name}" has shape [${shape.join(', ')}]; it has no row`);
  }
  return {
    name,
    type: getType(sourceName, tensor),
    shape,
    getSlab: (index, count) => ({
      ranges: [sliceRange(name, offsetBytes, sizeBytes, index, count)],
      assemble: null,
    }),
  };
}

/** A vector that the configuration holds instead of a file. */
export function createVector(name: string, values: readonly number[]): TensorEntry {
  return {
    name,
    type: 'f32',
    shape: [values.length],
    getSlab: (_, count) => {
      assert(count === 1, `${name} is one piece`);
      return { ranges: [], assemble: () => new Uint8Array(Float32Array.from(values).buffer) };
    },
  };
}

/** One entry for experts that each have a tensor; what was not found is a hole. */
export function stackExperts(sourceName: string, name: string, found: readonly PlacedTensor[]): TensorEntry {
  const all = Array.from<PlacedTensor | undefined>(found).map((tensor, expert) => {
    if (tensor) return tensor;
    throw new EngineError('BAD_FILE', `${sourceName}: expert ${expert} of ${name} is missing`);
  });
  const first = all[0] as PlacedTensor;
  for (const tensor of all) {
    const isAlike = tensor.dtype === first.dtype && String(tensor.shape) === String(first.shape);
    if (!isAlike) {
      throw new EngineError(
        'BAD_FILE',
        `${sourceName}: tensor "${tensor.name}" is ${tensor.dtype} [${tensor.shape.join(', ')}], "${first.name}" is ` +
          `${first.dtype} [${first.shape.join(', ')}]; the experts of a layer are alike`,
      );
    }
  }
  const getRange = (index: number, count: number): SourceRange => {
    // A fused tensor is read by its halves.
    const parts = count / all.length;
    const { name: own, offsetBytes, sizeBytes } = all[Math.floor(index / parts)] as PlacedTensor;
    return sliceRange(own, offsetBytes, sizeBytes, index % parts, parts);
  };
  return {
    name: first.name,
    type: getType(sourceName, first),
    shape: [all.length, ...first.shape],
    getSlab: (index, count) => ({ ranges: [getRange(index, count)], assemble: null }),
  };
}

/** Tensors that lie apart as one, their rows behind each other; alike but for the number of rows. */
export function joinRows(sourceName: string, ...tensors: PlacedTensor[]): TensorEntry {
  const [first] = tensors as [PlacedTensor];
  for (const { name, dtype, shape } of tensors) {
    if (dtype === first.dtype && String(shape.slice(1)) === String(first.shape.slice(1))) continue;
    throw new EngineError(
      'BAD_FILE',
      `${sourceName}: tensor "${name}" is ${dtype} [${shape.join(', ')}], "${first.name}" is ${first.dtype} ` +
        `[${first.shape.join(', ')}]; the two are read as one`,
    );
  }
  const rows = tensors.reduce((sum, { shape }) => sum + (shape[0] as number), 0);
  return {
    name: first.name,
    type: getType(sourceName, first),
    shape: [rows, ...first.shape.slice(1)],
    getSlab: (_, count) => {
      assert(count === 1, `${first.name} is one piece`);
      return {
        ranges: tensors.map(({ name, offsetBytes, sizeBytes }) => sliceRange(name, offsetBytes, sizeBytes, 0, 1)),
        assemble: concatenate,
      };
    },
  };
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.byteLength;
  }
  return all;
}

/** Without a leading dimension of 1. */
export function flatten(entry: TensorEntry): TensorEntry {
  return entry.shape.length === 2 && entry.shape[0] === 1 ? { ...entry, shape: entry.shape.slice(1) } : entry;
}

/** [2 * rows, cols]: the first half of its rows, and the second. */
export function splitHalves(entry: TensorEntry): TensorEntry[] {
  const [rows = 0, ...cols] = entry.shape;
  return [0, 1].map((half) => ({
    ...entry,
    shape: [rows / 2, ...cols],
    getSlab: (index, count) => entry.getSlab(half * count + index, 2 * count),
  }));
}

/** [experts, cols, rows] as [experts, rows, cols]. */
export function transposeExperts(entry: TensorEntry): TensorEntry {
  return pickColumns(entry, 0, 1);
}

/** [experts, cols, 2 * rows] with two matrices in alternate columns: each as [experts, rows, cols]. */
export function splitColumns(entry: TensorEntry): TensorEntry[] {
  return [pickColumns(entry, 0, 2), pickColumns(entry, 1, 2)];
}

/** [experts, cols, 2 * rows] with two matrices behind each other: each as [experts, rows, cols]. */
export function splitColumnHalves(entry: TensorEntry): TensorEntry[] {
  const half = (entry.shape[2] as number) / 2;
  return [pickColumns(entry, 0, 1, half), pickColumns(entry, half, 1, 2 * half)];
}

/** [experts, 2 * values] with two vectors in turn: each as [experts, values]. */
export function splitValues(entry: TensorEntry): TensorEntry[] {
  return [0, 1].map((first) => pick(entry, entry.shape[0] as number, 1, entry.shape[1] as number, first, 2));
}

function pickColumns(entry: TensorEntry, first: number, step: number, end?: number): TensorEntry {
  const [experts, rows, cols] = entry.shape as [number, number, number];
  const picked = pick(entry, experts, rows, cols, first, step, end);
  return { ...picked, shape: [experts, picked.shape[1] as number, rows] };
}

/** Every `step`th column from `first` on and before `end`, as rows. */
function pick(
  entry: TensorEntry,
  experts: number,
  rows: number,
  cols: number,
  first: number,
  step: number,
  end = cols,
): TensorEntry {
  const { blockBytes } = getWeightFormat(entry.type);
  const picked = Math.ceil((end - first) / step);
  return {
    ...entry,
    shape: [experts, picked],
    getSlab(index, count) {
      assert(count === experts, `${entry.name} is read expert by expert`);
      const { ranges, assemble } = entry.getSlab(index, count);
      return {
        ranges,
        async assemble(bytes, signal) {
          const file = assemble ? await assemble(bytes, signal) : (bytes[0] as Uint8Array);
          const out = new Uint8Array(rows * picked * blockBytes);
          let at = 0;
          for (let col = first; col < end; col += step) {
            for (let row = 0; row < rows; row++, at += blockBytes) {
              const from = (row * cols + col) * blockBytes;
              for (let byte = 0; byte < blockBytes; byte++) out[at + byte] = file[from + byte] as number;
            }
          }
          return out;
        },
      };
    },
  };
}

const NIBBLE_BYTES = 16;

/**
 * MXFP4 as gpt-oss's files have it: nibbles [experts, rows, groups, 16] of neighbouring pairs, low one first, and exponents
 * [experts, rows, groups]; as the blocks of a GGUF file, [experts, rows / step, 32 * groups], of every `step`th row.
 * @returns an entry per first row, 0 to step - 1.
 */
export function joinMxfp4(sourceName: string, blocks: PlacedTensor, scales: PlacedTensor, step: 1 | 2): TensorEntry[] {
  const [experts = 0, rows = 0, groups = 0, bytes = 0] = blocks.shape;
  const isFit = blocks.dtype === 'U8' && scales.dtype === 'U8' && bytes === NIBBLE_BYTES && rows % step === 0;
  if (!isFit || blocks.shape.length !== 4 || String(scales.shape) !== String([experts, rows, groups])) {
    throw new EngineError(
      'BAD_FILE',
      `${sourceName}: "${blocks.name}" is ${blocks.dtype} [${blocks.shape.join(', ')}], "${scales.name}" ${scales.dtype} ` +
        `[${scales.shape.join(', ')}]; U8 [experts, rows, groups, ${NIBBLE_BYTES}] and U8 [experts, rows, groups] are needed`,
    );
  }
  return Array.from({ length: step }, (_, first) => ({
    name: blocks.name,
    type: 'mxfp4',
    shape: [experts, rows / step, groups * 32],
    getSlab(index, count) {
      assert(count === experts, `${blocks.name} is read expert by expert`);
      return {
        ranges: [blocks, scales].map(({ name, offsetBytes, sizeBytes }) =>
          sliceRange(name, offsetBytes, sizeBytes, index, count),
        ),
        assemble: ([nibbles, exponents]) =>
          interleaveBlocks(nibbles as Uint8Array, exponents as Uint8Array, groups, first, step),
      };
    },
  }));
}

function interleaveBlocks(
  nibbles: Uint8Array,
  exponents: Uint8Array,
  groups: number,
  first: number,
  step: number,
): Uint8Array {
  const out = new Uint8Array((exponents.length / step) * (1 + NIBBLE_BYTES));
  let at = 0;
  for (let row = first; row * groups < exponents.length; row += step) {
    for (let group = row * groups; group < (row + 1) * groups; group++) {
      const getNibble = (i: number): number =>
        ((nibbles[group * NIBBLE_BYTES + (i >> 1)] as number) >> (4 * (i & 1))) & 15;
      out[at++] = exponents[group] as number;
      for (let i = 0; i < NIBBLE_BYTES; i++) out[at++] = getNibble(i) | (getNibble(i + NIBBLE_BYTES) << 4);
    }
  }
  return out;
}

function getType(sourceName: string, { name, dtype }: PlacedTensor): WeightType {
  const type = WEIGHT_TYPES[dtype];
  if (type) return type;
  throw new EngineError(
    'UNSUPPORTED',
    `${sourceName}: tensor "${name}" has dtype ${dtype}; accepted are ${Object.keys(WEIGHT_TYPES).join(', ')}`,
  );
}
