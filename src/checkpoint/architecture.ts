/**
 * What a reader of one GGUF architecture provides, and the checks of tensors that all readers share.
 * Owns no architecture's names or keys; see olmoe.ts and the registry in architectures.ts.
 */
import { EngineError } from '../errors';
import type { GgufFile, TensorEntry } from './gguf';
import type { ResidentRole } from './manifest';
import type { ModelConfig } from './model-config';

/** The experts' tensors of one layer, each [experts, rows, cols]: an expert is one contiguous slab. */
export interface ExpertTensors {
  readonly gateProj: TensorEntry; // [experts, expertWidth, hiddenSize]
  readonly upProj: TensorEntry; // [experts, expertWidth, hiddenSize]
  readonly downProj: TensorEntry; // [experts, hiddenSize, expertWidth]
}

export interface ResidentSource {
  readonly role: ResidentRole;
  readonly layer: number | null;
  readonly tensor: TensorEntry;
}

/** A checkpoint's tensors by their role in the model; every tensor of the file is in one of them. */
export interface ArchitectureReading {
  readonly config: ModelConfig;
  readonly resident: readonly ResidentSource[];
  /** By position in `config.moeLayers`. */
  readonly experts: readonly ExpertTensors[];
}

export interface Architecture {
  /** `general.architecture` of the file. */
  readonly name: ModelConfig['architecture'];
  /** @throws EngineError `BAD_FILE`, `UNSUPPORTED` */
  read(gguf: GgufFile): ArchitectureReading;
}

/** Looks tensors up by name and shape, and remembers which were asked for. */
export class TensorReader {
  private readonly taken = new Set<string>();

  constructor(private readonly gguf: GgufFile) {}

  has(name: string): boolean {
    return this.gguf.tensors.has(name);
  }

  /**
   * The tensor of a name, with the given number of dimensions.
   * @throws EngineError `BAD_FILE`
   */
  get(name: string, dimensions: number): TensorEntry {
    const tensor = this.gguf.tensors.get(name);
    if (!tensor) throw new EngineError('BAD_FILE', `${this.gguf.sourceName}: tensor "${name}" is missing`);
    if (tensor.shape.length !== dimensions) this.failShape(tensor, `${dimensions} dimensions`);
    this.taken.add(name);
    return tensor;
  }

  /** The tensor of a name, with exactly this shape. */
  getShaped(name: string, shape: readonly number[]): TensorEntry {
    const tensor = this.get(name, shape.length);
    if (tensor.shape.some((length, i) => length !== shape[i])) this.failShape(tensor, `[${shape.join(', ')}]`);
    return tensor;
  }

  /**
   * A tensor that nothing asked for would be left out of the computation without a word.
   * @throws EngineError `UNSUPPORTED`
   */
  checkAllTaken(architecture: string): void {
    for (const name of this.gguf.tensors.keys()) {
      if (!this.taken.has(name)) {
        throw new EngineError(
          'UNSUPPORTED',
          `${this.gguf.sourceName}: tensor "${name}" has no place in the ${architecture} models that webmoe runs`,
        );
      }
    }
  }

  private failShape(tensor: TensorEntry, expected: string): never {
    throw new EngineError(
      'BAD_FILE',
      `${this.gguf.sourceName}: tensor "${tensor.name}" has shape [${tensor.shape.join(', ')}]; expected ${expected}`,
    );
  }
}
