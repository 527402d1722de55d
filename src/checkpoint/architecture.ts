/**
 * What reading a checkpoint provides: its model as data, and where each of its tensors lies.
 * Owns the lookup of tensors by name and shape, and that none is left over; no architecture's names or keys.
 */
import { EngineError } from '../errors';
import { type Checkpoint, joinExperts, splitGateUp, type TensorEntry } from './checkpoint';
import type { PagePart, ResidentRole } from './manifest';
import { listGroupLayers, type ModelConfig } from './model-config';
import { getExpertShapes, listResidentTensors } from './resident-tensors';
import type { TensorNames } from './traits';

/** The experts' matrices and vectors of one page group, each for all experts: [experts, rows, cols] or [experts, values]. */
export type ExpertTensors = Readonly<Partial<Record<PagePart, TensorEntry>>>;

export interface ResidentSource {
  readonly role: ResidentRole;
  readonly layer: number | null;
  readonly tensor: TensorEntry;
}

/** A checkpoint's tensors by their role in the model; every tensor of the file is in one of them. */
export interface ArchitectureReading {
  readonly config: ModelConfig;
  readonly resident: readonly ResidentSource[];
  /** By page group. */
  readonly experts: readonly ExpertTensors[];
}

/** Looks tensors up by name and shape, and remembers which were asked for. */
export class TensorReader {
  private readonly taken = new Set<string>();
  private readonly tensors: Map<string, TensorEntry>;

  constructor(private readonly checkpoint: Pick<Checkpoint, 'sourceName' | 'tensors'>) {
    this.tensors = new Map(checkpoint.tensors);
  }

  has(name: string): boolean {
    return this.tensors.has(name);
  }

  /**
   * The tensor of a name, with the given number of dimensions; without a number with any.
   * @throws EngineError `BAD_FILE`
   */
  get(name: string, dimensions?: number): TensorEntry {
    const tensor = this.tensors.get(name);
    if (!tensor) throw new EngineError('BAD_FILE', `${this.checkpoint.sourceName}: tensor "${name}" is missing`);
    if (dimensions !== undefined && tensor.shape.length !== dimensions)
      this.failShape(tensor, `${dimensions} dimensions`);
    this.taken.add(name);
    return tensor;
  }

  /** The tensor of a name, with exactly this shape. */
  getShaped(name: string, shape: readonly number[]): TensorEntry {
    const tensor = this.get(name, shape.length);
    if (tensor.shape.some((length, i) => length !== shape[i])) this.failShape(tensor, `[${shape.join(', ')}]`);
    return tensor;
  }

  /** Puts entries under other names in the place of a tensor that is kept in another way. */
  replace(name: string, entries: Readonly<Record<string, TensorEntry>>): void {
    this.tensors.delete(name);
    for (const [own, entry] of Object.entries(entries)) this.tensors.set(own, entry);
  }

  /** One entry of stacks that lie apart. @throws EngineError `UNSUPPORTED` where they are not alike */
  join(stacks: readonly TensorEntry[]): TensorEntry {
    return joinExperts(this.checkpoint.sourceName, stacks);
  }

  /** Tensors that are known, and not used. */
  skip(isSkipped: (name: string) => boolean): void {
    for (const name of this.tensors.keys()) if (isSkipped(name)) this.taken.add(name);
  }

  /**
   * A tensor that nothing asked for would be left out of the computation without a word.
   * @throws EngineError `UNSUPPORTED`
   */
  checkAllTaken(architecture: string): void {
    for (const name of this.tensors.keys()) {
      if (!this.taken.has(name)) {
        throw new EngineError(
          'UNSUPPORTED',
          `${this.checkpoint.sourceName}: tensor "${name}" has no place in the ${architecture} models that webmoe runs`,
        );
      }
    }
  }

  private failShape(tensor: TensorEntry, expected: string): never {
    throw new EngineError(
      'BAD_FILE',
      `${this.checkpoint.sourceName}: tensor "${tensor.name}" has shape [${tensor.shape.join(', ')}]; expected ${expected}`,
    );
  }
}

/**
 * Finds every tensor of a model by its name.
 * @throws EngineError `BAD_FILE`: one is missing or has another shape; `UNSUPPORTED`: one has no place
 */
export function collectTensors(config: ModelConfig, names: TensorNames, tensors: TensorReader): ArchitectureReading {
  const resident = listResidentTensors(config).map(({ role, layer, shape }) => ({
    role,
    layer,
    tensor: tensors.getShaped(nameOf(names[role], layer), shape),
  }));
  const { moeLayers, moe } = config;
  const experts = Array.from({ length: moeLayers.length / moe.layersPerGroup }, (_, group) =>
    collectExperts(
      config,
      names,
      tensors,
      listGroupLayers(moe, group).map((moeLayer) => moeLayers[moeLayer] as number),
    ),
  );
  tensors.checkAllTaken(config.architecture);
  return { config, resident, experts };
}

function nameOf(template: string, layer: number | null): string {
  return layer === null ? template : template.replace('{i}', String(layer));
}

/** Layers of a group each bring the same share of its experts, in the order of the layers; rounds share those of the first. */
function collectExperts(
  config: ModelConfig,
  names: TensorNames,
  tensors: TensorReader,
  layers: readonly number[],
): ExpertTensors {
  const bringing = config.moe.rounds ? layers.slice(0, 1) : layers;
  const experts = config.moe.experts / bringing.length;
  const own = bringing.map((layer) => collectLayerExperts(config, names, tensors, layer, experts));
  const parts = Object.keys(own[0] ?? {}) as PagePart[];
  return Object.fromEntries(parts.map((part) => [part, tensors.join(own.map((found) => found[part] as TensorEntry))]));
}

function collectLayerExperts(
  config: ModelConfig,
  names: TensorNames,
  tensors: TensorReader,
  layer: number,
  experts: number,
): ExpertTensors {
  const { expertWidth } = config.moe;
  const found: Partial<Record<PagePart, TensorEntry>> = {};
  const fused = nameOf(names.gateUpProj, layer);
  if (tensors.has(fused)) {
    const whole = tensors.getShaped(fused, [experts, 2 * expertWidth, config.hiddenSize]);
    [found.gateProj, found.upProj] = splitGateUp(whole);
  }
  for (const [part, shape] of Object.entries(getExpertShapes(config)) as [PagePart, readonly number[]][]) {
    found[part] ??= tensors.getShaped(nameOf(names[part], layer), [experts, ...shape]);
  }
  return found;
}
