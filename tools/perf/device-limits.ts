/**
 * What a device can do at best: copies within its memory in two forms, and products of f32 matrices in two.
 * What kernels are measured against; owns its buffers, which are outside the engine's ledger.
 */
import type { GpuDevice } from '../../src/gpu/device';
import { compileProgram } from '../../src/gpu/program';
import type { BufferCopy, RecordedDispatch } from './dispatch-watch';
import type { KernelWork } from './kernel-work';

const [COPY_SRC, COPY_DST, STORAGE] = [0x4, 0x8, 0x80];

export interface LimitKernel extends KernelWork {
  readonly row: string;
  readonly work: RecordedDispatch | BufferCopy;
}

const COPY_WORKGROUP = 256;

const copySource = /* wgsl */ `
override QUADS: u32;
@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> target_: array<vec4<u32>>;
@compute @workgroup_size(${COPY_WORKGROUP})
fn copy(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  for (var i = id.x; i < QUADS; i += groups.x * ${COPY_WORKGROUP}u) {
    target_[i] = source[i];
  }
}`;

/** c = a b, all [N, N] f32. An invocation makes 4 x 4 values in registers; operands come from memory. */
const plainGemmSource = /* wgsl */ `
override N: u32;
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
@compute @workgroup_size(8, 8)
fn gemm(@builtin(global_invocation_id) id: vec3<u32>) {
  let quads = N / 4u;
  // By name: software adapters pay for an index that is not a constant.
  var sum0 = vec4<f32>(0.0);
  var sum1 = vec4<f32>(0.0);
  var sum2 = vec4<f32>(0.0);
  var sum3 = vec4<f32>(0.0);
  for (var k = 0u; k < quads; k++) {
    let b0 = b[(k * 4u) * quads + id.x];
    let b1 = b[(k * 4u + 1u) * quads + id.x];
    let b2 = b[(k * 4u + 2u) * quads + id.x];
    let b3 = b[(k * 4u + 3u) * quads + id.x];
    let block = mat4x4<f32>(b0, b1, b2, b3);
    let row = id.y * 4u * quads + k;
    sum0 += block * a[row];
    sum1 += block * a[row + quads];
    sum2 += block * a[row + 2u * quads];
    sum3 += block * a[row + 3u * quads];
  }
  let out = id.y * 4u * quads + id.x;
  c[out] = sum0;
  c[out + quads] = sum1;
  c[out + 2u * quads] = sum2;
  c[out + 3u * quads] = sum3;
}`;

/** The same with 64 x 64 tiles of the result, whose operands 16 x 16 invocations stage in workgroup memory. */
const stagedGemmSource = /* wgsl */ `
override N: u32;
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
var<workgroup> a_tile: array<vec4<f32>, 256>; // [64 rows, 4 quads of k]
var<workgroup> b_tile: array<vec4<f32>, 256>; // [16 of k, 16 quads]
@compute @workgroup_size(16, 16)
fn gemm(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let quads = N / 4u;
  // By name: software adapters pay for an index that is not a constant.
  var sum0 = vec4<f32>(0.0);
  var sum1 = vec4<f32>(0.0);
  var sum2 = vec4<f32>(0.0);
  var sum3 = vec4<f32>(0.0);
  for (var k = 0u; k < N; k += 16u) {
    a_tile[lane] = a[(group.y * 64u + lane / 4u) * quads + k / 4u + lane % 4u];
    b_tile[lane] = b[(k + lane / 16u) * quads + group.x * 16u + lane % 16u];
    workgroupBarrier();
    for (var quad = 0u; quad < 4u; quad++) {
      let b0 = b_tile[(quad * 4u) * 16u + id.x];
      let b1 = b_tile[(quad * 4u + 1u) * 16u + id.x];
      let b2 = b_tile[(quad * 4u + 2u) * 16u + id.x];
      let b3 = b_tile[(quad * 4u + 3u) * 16u + id.x];
      let block = mat4x4<f32>(b0, b1, b2, b3);
      let row = id.y * 16u + quad;
      sum0 += block * a_tile[row];
      sum1 += block * a_tile[row + 4u];
      sum2 += block * a_tile[row + 8u];
      sum3 += block * a_tile[row + 12u];
    }
    workgroupBarrier();
  }
  let out = (group.y * 64u + id.y * 4u) * quads + group.x * 16u + id.x;
  c[out] = sum0;
  c[out + quads] = sum1;
  c[out + 2u * quads] = sum2;
  c[out + 3u * quads] = sum3;
}`;

/** Kernels of a device's limits; `free` destroys their buffers. */
export async function openLimits(device: GpuDevice): Promise<{ kernels: readonly LimitKernel[]; free(): void }> {
  const { handle, traits, limits } = device;
  // Larger than any cache; smaller on a CPU, whose caches are smaller too.
  const copyBytes = Math.min(traits.isSoftware ? 64 << 20 : 256 << 20, limits.maxStorageBufferBindingSize);
  const size = traits.isSoftware ? 512 : 2048;
  const buffers = [copyBytes, copyBytes, size * size * 4, size * size * 4, size * size * 4].map((sizeBytes, i) =>
    handle.createBuffer({ label: `limit ${i}`, size: sizeBytes, usage: STORAGE | COPY_SRC | COPY_DST }),
  );
  const [source, target, a, b, c] = buffers as [GPUBuffer, GPUBuffer, GPUBuffer, GPUBuffer, GPUBuffer];
  const record = async (
    spec: Parameters<typeof compileProgram>[1],
    bound: readonly GPUBuffer[],
    grid: RecordedDispatch['grid'],
  ): Promise<RecordedDispatch> => {
    const { name, pipeline, bind } = await compileProgram(device, spec);
    return { kernel: name, pipeline, bindGroup: bind(bound), grid };
  };
  const quads = copyBytes / 16;
  const copyGrid = Math.min(limits.maxComputeWorkgroupsPerDimension, Math.ceil(quads / COPY_WORKGROUP));
  const operands = ['read', 'read', 'write'] as const;
  // Barriers of 256 invocations take a CPU seconds.
  const hasStaged = !traits.isSoftware;
  const [copy, plain, staged] = await Promise.all([
    record(
      { name: 'copy', source: copySource, bindings: ['read', 'write'], constants: { QUADS: quads } },
      [source, target],
      [copyGrid, 1, 1],
    ),
    record(
      { name: 'gemm', source: plainGemmSource, bindings: operands, constants: { N: size } },
      [a, b, c],
      [size / 32, size / 32, 1],
    ),
    hasStaged
      ? record(
          { name: 'gemm', source: stagedGemmSource, bindings: operands, constants: { N: size } },
          [a, b, c],
          [size / 64, size / 64, 1],
        )
      : null,
  ]);
  const gemm = { bytes: 3 * size * size * 4, flops: 2 * size ** 3 };
  return {
    kernels: [
      { row: 'copy, of a buffer', work: { source, target }, bytes: 2 * copyBytes, flops: 0 },
      { row: 'copy, by a kernel', work: copy, bytes: 2 * copyBytes, flops: 0 },
      { row: 'gemm, operands from memory', work: plain, ...gemm },
      ...(staged ? [{ row: 'gemm, operands staged', work: staged, ...gemm }] : []),
    ],
    free: () => {
      for (const buffer of buffers) buffer.destroy();
    },
  };
}
