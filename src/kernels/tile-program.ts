/**
 * Compiles kernels that make tiles: one source, whose products are plain or by subgroup matrices.
 * Owns how many lanes a tile has and what is said where matrices do not compile; never knows a kernel's bindings.
 */
import type { WeightType } from '../checkpoint/model-config';
import { EngineError } from '../errors';
import type { GpuDevice } from '../gpu/device';
import { compileProgram, type Program, type ProgramSpec } from '../gpu/program';
import { getProgramSource, type Snippet } from './program-source';
import type { Variant } from './variant';

interface TileProgramSpec extends ProgramSpec {
  readonly type: WeightType;
  /** Besides `tile`. */
  readonly snippets: readonly Snippet[];
}

/** Invocations of a workgroup that multiplies tiles. */
export function getTileLanes({ matrix, tileLanes }: Variant): number {
  return matrix?.lanes ?? tileLanes;
}

/**
 * @param spec its source the kernel's own file, its constants without WORKGROUP_SIZE.
 * @throws EngineError `GPU_ERROR`; `UNSUPPORTED` where subgroup matrices do not compile.
 */
export async function compileTileProgram(
  device: GpuDevice,
  variant: Variant,
  { name, source, type, snippets, bindings, constants }: TileProgramSpec,
): Promise<Program> {
  try {
    return await compileProgram(device, {
      name,
      source: getProgramSource(source, variant, type, ['tile', ...snippets]),
      bindings,
      constants: { ...constants, WORKGROUP_SIZE: getTileLanes(variant) },
    });
  } catch (cause) {
    if (!variant.matrix || !(cause instanceof EngineError) || cause.code !== 'GPU_ERROR') throw cause;
    throw new EngineError(
      'UNSUPPORTED',
      `${cause.message}. Subgroup matrices (kernels.subgroupMatrix) are experimental: these were written for the WGSL of Dawn in ` +
        'the npm package webgpu 0.6.2, and this one differs: leave the option out',
      { cause },
    );
  }
}
