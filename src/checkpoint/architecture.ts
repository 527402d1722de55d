/**
 * What a reader of one architecture provides, and the checks of tensors that all readers share.
 * Owns no architecture's names or keys; see olmoe.ts and the registry in architectures.ts.
 */
import { EngineError } from '../errors';
import { type Checkpoint, splitGateUp, type TensorEntry } from './checkpoint';
import type { ResidentRole } from './manifest';
import type { ModelConfig } from './model-config';

/** The experts' tensors of one layer, each [experts, rows, cols]. */
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
  read(gguf: Checkpoint): ArchitectureReading;
}

/** Looks tensors up by name and shape, and remembers which were asked for. */
export class TensorReader {
  private readonly taken = new Set<string>();

  constructor(private readonly gguf: Checkpoint) {}

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

  /** Gate, up and down projection of all experts of a layer, gate and up apart or in one tensor. */
  getExperts(prefix: string, experts: number, expertWidth: number, hiddenSize: number): ExpertTensors {
    const get = (name: string, rows: number, cols: number) =>
      this.getShaped(`${prefix}.ffn_${name}_exps.weight`, [experts, rows, cols]);
    const downProj = get('down', hiddenSize, expertWidth);
    if (this.has(`${prefix}.ffn_gate_up_exps.weight`)) {
      const [gateProj, upProj] = splitGateUp(get('gate_up', 2 * expertWidth, hiddenSize));
      return { gateProj, upProj, downProj };
    }
    return { gateProj: get('gate', expertWidth, hiddenSize), upProj: get('up', expertWidth, hiddenSize), downProj };
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
