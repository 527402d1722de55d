/**
 * A checkpoint, whatever its format: metadata and tensors under GGUF's names, and where every tensor's bytes are.
 * Owns the directory that architectures read from and the ways a tensor can lie in its file; reads no bytes itself.
 */
import { assert, EngineError } from '../errors';
import type { ByteSource } from './byte-source';
import type { GgufMetadata } from './gguf-metadata';
import type { QuantizationReport, TokenizerData } from './manifest';
import type { WeightType } from './model-config';
import type { ArchitectureTraits } from './traits';

/** A range of the checkpoint's source. */
export interface SourceRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** What it holds: a tensor's name, with the expert where it is one of several. */
  readonly purpose: string;
}

/** Where the weights of a tensor, or of one expert of a stacked tensor, are. */
export interface TensorSlab {
  readonly ranges: readonly SourceRange[];
  /**
   * Makes the weights, in the layout that `type` has in a GGUF file, from the bytes of the ranges; pure. What takes long gives
   * the event loop its turns, and ends with `ABORTED` when the signal fires. Null: the one range is in that layout.
   */
  readonly assemble: ((ranges: readonly Uint8Array[], signal?: AbortSignal) => Uint8Array | Promise<Uint8Array>) | null;
}

export interface TensorEntry {
  /** As in the file. */
  readonly name: string;
  readonly type: WeightType;
  /** Outermost first; the last is the number of columns. */
  readonly shape: readonly number[];
  /** The `index`th of `count` equal parts along the first dimension: (0, 1) the whole, (e, experts) an expert. */
  getSlab(index: number, count: number): TensorSlab;
}

export interface Checkpoint {
  /** Name of the source, for messages. */
  readonly sourceName: string;
  /** Content identity: the format and 32 hex digits. */
  readonly modelId: string;
  readonly metadata: GgufMetadata;
  /** What this source says of its architecture's traits, or keeps otherwise than GGUF files do. */
  readonly traits: Partial<ArchitectureTraits>;
  /** By GGUF name. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** All files, one behind the other; what ranges are offsets in. */
  readonly source: ByteSource;
  /** What quantises tensors on their way, and knows the error; null: nothing does. */
  readonly quantization: { getReport(): QuantizationReport } | null;
  /** @param vocabSize rows of the embedding. @throws EngineError `BAD_FILE`, `UNSUPPORTED` */
  readTokenizer(vocabSize: number): TokenizerData;
}

/** Parts of a tensor that lies in one piece. */
export function sliceRange(
  name: string,
  offsetBytes: number,
  sizeBytes: number,
  index: number,
  count: number,
): SourceRange {
  assert(sizeBytes % count === 0 && index < count, `${name} has ${count} equal parts`);
  const lengthBytes = sizeBytes / count;
  const purpose = count === 1 ? name : `${name} expert ${index}`;
  return { offsetBytes: offsetBytes + index * lengthBytes, lengthBytes, purpose };
}

/** Gate and up projection of a fused tensor [experts, 2 * width, cols]: its first and its second half of rows. */
export function splitGateUp(fused: TensorEntry): [gate: TensorEntry, up: TensorEntry] {
  const [experts, rows, cols] = fused.shape as [number, number, number];
  const half = (which: 0 | 1): TensorEntry => ({
    name: fused.name,
    type: fused.type,
    shape: [experts, rows / 2, cols],
    getSlab(index, count) {
      assert(count === experts, `${fused.name} is read expert by expert`);
      return fused.getSlab(2 * index + which, 2 * experts);
    },
  });
  return [half(0), half(1)];
}

/** Stacks of experts of several layers as one, behind each other; alike in all but the layer. */
export function joinExperts(sourceName: string, stacks: readonly TensorEntry[]): TensorEntry {
  const [first] = stacks as [TensorEntry];
  const odd = stacks.find(({ type, shape }) => type !== first.type || String(shape) !== String(first.shape));
  if (odd) {
    throw new EngineError(
      'UNSUPPORTED',
      `${sourceName}: "${odd.name}" is ${odd.type.toUpperCase()} [${odd.shape.join(', ')}], "${first.name}" ` +
        `${first.type.toUpperCase()} [${first.shape.join(', ')}]; layers that share experts have them alike`,
    );
  }
  if (stacks.length === 1) return first;
  const [own = 0, ...shape] = first.shape;
  const experts = own * stacks.length;
  return {
    ...first,
    shape: [experts, ...shape],
    getSlab(index, count) {
      assert(count === experts, `${first.name} is read expert by expert`);
      return (stacks[Math.floor(index / own)] as TensorEntry).getSlab(index % own, own);
    },
  };
}
