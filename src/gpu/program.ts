/**
 * Compiles WGSL into pipelines with explicit bindings, and makes bind groups.
 * Never knows a kernel by name: kernels/ describes them.
 */
import { EngineError } from '../errors';
import type { GpuDevice } from './device';
import type { DeviceBuffer } from './memory';

export type BindingKind = 'uniform' | 'read' | 'write';

export interface ProgramSpec {
  /** Entry point and label. */
  readonly name: string;
  readonly source: string;
  /** Kind of binding 0, 1, … of group 0. */
  readonly bindings: readonly BindingKind[];
  readonly constants: Readonly<Record<string, number>>;
}

/** A buffer, or a range of it: offset a multiple of the adapter's alignment (256 by default). */
export type BindingResource =
  | DeviceBuffer
  | { readonly buffer: DeviceBuffer; readonly offset: number; readonly size: number };

export interface Program {
  readonly name: string;
  readonly pipeline: GPUComputePipeline;
  /** Binds resources in the order of the spec's bindings. */
  bind(resources: readonly BindingResource[]): GPUBindGroup;
}

const LAYOUT_TYPE = { uniform: 'uniform', read: 'read-only-storage', write: 'storage' } as const;

/** @throws EngineError `GPU_ERROR` with the compiler's messages. */
export async function compileProgram(device: GpuDevice, spec: ProgramSpec): Promise<Program> {
  const { handle } = device;
  const layout = handle.createBindGroupLayout({
    label: spec.name,
    entries: spec.bindings.map((kind, binding) => ({
      binding,
      visibility: 4 /* GPUShaderStage.COMPUTE */,
      buffer: { type: LAYOUT_TYPE[kind] },
    })),
  });
  // Scoped: the error is thrown below, and must not count as one of the device.
  handle.pushErrorScope('validation');
  const module = handle.createShaderModule({ label: spec.name, code: spec.source });
  const moduleError = handle.popErrorScope();
  let pipeline: GPUComputePipeline;
  try {
    pipeline = await handle.createComputePipelineAsync({
      label: spec.name,
      layout: handle.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: spec.name, constants: spec.constants },
    });
  } catch (cause) {
    await moduleError;
    const { messages } = await module.getCompilationInfo();
    const errors = messages.filter((m) => m.type === 'error');
    const detail = errors.map((m) => `${m.lineNum}:${m.linePos} ${m.message}`).join('; ');
    throw new EngineError('GPU_ERROR', `kernel ${spec.name} does not compile: ${detail || String(cause)}`, { cause });
  }
  return {
    name: spec.name,
    pipeline,
    bind: (resources) =>
      handle.createBindGroup({
        label: spec.name,
        layout,
        entries: resources.map((resource, binding) => ({
          binding,
          resource: 'offset' in resource ? resource : { buffer: resource },
        })),
      }),
  };
}
