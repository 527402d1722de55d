/**
 * Places data in GPU buffers, runs kernels once, reads results back. Owns devices and buffers of the kernel tests;
 * never knows what a kernel computes.
 */
import { afterAll, expect } from 'vitest';
import { getWeightFormat } from '../../src/checkpoint/formats';
import { decodeF16 } from '../../src/checkpoint/formats/f16';
import { encodeF16 } from '../../src/checkpoint/formats/quantize';
import type { WeightType } from '../../src/checkpoint/model-config';
import { type GpuDevice, openDevice } from '../../src/gpu/device';
import { type DeviceBuffer, GpuMemory } from '../../src/gpu/memory';
import { Submission } from '../../src/gpu/pass';
import type { BindingResource } from '../../src/gpu/program';
import { getUniformBytes, UniformBlock, type UniformWord } from '../../src/gpu/uniforms';
import type { Command } from '../../src/kernels/command';
import { chooseVariant, type Products, type Variant } from '../../src/kernels/variant';
import { CONTROL, NO_FAULT } from '../../src/model/run-state';

export const ABSENT = 0xffffffff;
export const PROMISED = 0xfffffffe;
/** What untouched results must still hold: an exact f32. */
export const SENTINEL = 777.25;

const isFull = Boolean(import.meta.env.WEBMOE_FULL);

/** Over Dawn's bindings in Node (test/dawn) everything else is what the browser's tests have run. */
const isF16Sample = typeof document === 'undefined' && !isFull;

type Data = Float32Array | Uint32Array | Uint8Array;

/** One device and one form of the kernels on it. */
export class Bench {
  readonly #memory: GpuMemory;
  readonly #compiled = new Map<string, Promise<unknown>>();
  #buffers: DeviceBuffer[] = [];
  #uniforms: UniformBlock | undefined;

  constructor(
    readonly device: GpuDevice,
    readonly variant: Variant,
    /** Which half of the cases this form takes; null: all of them. */
    private readonly half: 0 | 1 | null,
  ) {
    this.#memory = new GpuMemory(device, 256 * 2 ** 20);
  }

  get name(): string {
    return this.variant.name;
  }

  /** Whether this form is slow here: wide workgroups with barriers on a software adapter. */
  get isSlow(): boolean {
    return this.device.traits.isSoftware && this.variant.workgroupSize > 4;
  }

  /**
   * The cases of this form: all of the device's own. Both sizes of the tree are one text, and most of a case's time is its
   * pipeline's: they take every second case each, and all in `npm run test:full`. In Node those cases are left that name f16.
   */
  thin<T>(cases: readonly T[]): readonly T[] {
    if (isF16Sample && !this.variant.matrix) return cases.filter(isF16Case);
    if (this.half === null || cases.length < 2 || isFull) return cases;
    return cases.filter((_, i) => i % 2 === this.half);
  }

  /** Whether kernels can take products of this form here. */
  offers(products: Products): boolean {
    return products !== 'f16' || this.device.traits.hasF16;
  }

  /** The weights that tiles of this form multiply: with subgroup matrices halves, whose products are exact in f32. */
  roundWeights(values: Float32Array): Float32Array {
    return this.variant.matrix ? values.map((value) => decodeF16(encodeF16(value))) : values;
  }

  /** The activations, [rows, cols], that tiles of this form multiply: halves likewise, of a row over a power of two. */
  roundRows(values: Float32Array, cols: number): Float32Array {
    if (!this.variant.matrix) return values;
    const rounded = values.slice();
    for (let at = 0; at < values.length; at += cols) {
      const row = rounded.subarray(at, at + cols);
      const scale = 2 ** (14 - Math.floor(Math.log2(Math.max(2 ** -112, ...row.map(Math.abs)))));
      row.set(row.map((value) => decodeF16(encodeF16(value * scale)) / scale));
    }
    return rounded;
  }

  /** What `compile` gave for this key before: on a software adapter a pipeline costs more than its runs. */
  compileOnce<T>(key: unknown, compile: () => Promise<T>): Promise<T> {
    const name = JSON.stringify(key);
    const made = this.#compiled.get(name) ?? compile();
    this.#compiled.set(name, made);
    return made as Promise<T>;
  }

  /** Replaces all buffers by these and a fresh block of 32 uniforms. */
  async place<K extends string>(data: Readonly<Record<K, Data>>): Promise<Record<K, DeviceBuffer>> {
    this.#memory.free(this.#buffers);
    const names = Object.keys(data) as K[];
    this.#buffers = await this.#memory.allocate([
      ...names.map((label) => ({ label, sizeBytes: data[label].byteLength, kind: 'storage' as const })),
      { label: 'uniforms', sizeBytes: getUniformBytes(32), kind: 'uniform' },
    ]);
    this.#uniforms = new UniformBlock(this.device, this.#buffers[names.length]!);
    names.forEach((name, i) => {
      this.write(this.#buffers[i]!, data[name]);
    });
    return Object.fromEntries(names.map((name, i) => [name, this.#buffers[i]])) as Record<K, DeviceBuffer>;
  }

  write(buffer: DeviceBuffer, data: Data): void {
    this.device.handle.queue.writeBuffer(buffer, 0, data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  }

  uniform(...words: readonly UniformWord[]): BindingResource {
    return this.#uniforms!.add(...words);
  }

  /** One submission of the commands; whole buffers back, as bytes. */
  async run(
    commands: readonly (readonly [command: Command, rows: number])[],
    results: readonly DeviceBuffer[],
  ): Promise<ArrayBuffer[]> {
    const sizeBytes = results.reduce((sum, buffer) => sum + buffer.size, 0);
    const [target] = await this.#memory.allocate([{ label: 'results', sizeBytes, kind: 'readback' }]);
    const submission = new Submission(this.device);
    for (const [command, rows] of commands) command(submission, rows);
    const parts = results.map((source) => ({ source, offsetBytes: 0, sizeBytes: source.size }));
    const bytes = await submission.submitAndRead(parts, target!);
    this.#memory.free([target!]);
    let at = 0;
    return results.map((buffer) => {
      const start = at;
      at += buffer.size;
      return bytes.slice(start, at);
    });
  }
}

/** The form with subgroup matrices, where the adapter lists some that tiles can be made of; software compiles it slowest of all. */
async function openMatrixBench(): Promise<Bench | undefined> {
  const device = await openDevice({ subgroupMatrix: true });
  afterAll(() => device.destroy());
  if (device.traits.subgroupMatrices.length === 0) return undefined;
  return new Bench(device, chooseVariant(device.traits, { subgroupMatrix: true }), 1);
}

/**
 * The forms that every kernel is tested in: the device's own, and the tree at both sizes on a device of default limits; with
 * subgroup matrices too where the kernel makes tiles and the adapter has them, alone in Node's sample.
 * Called once per test file, whose end closes the devices.
 */
export async function openBenches({ isTiled = false } = {}): Promise<Bench[]> {
  const matrix = isTiled ? await openMatrixBench() : undefined;
  if (isF16Sample && matrix) return [matrix];
  const own = await openDevice();
  if (isF16Sample) {
    afterAll(() => own.destroy());
    // Mesa's compiler unrolls tiles, and takes as many times longer.
    return [new Bench(own, { ...chooseVariant(own.traits), tiles: 1 }, null)];
  }
  const plain = await openDevice({ defaultLimitsOnly: true });
  afterAll(() => {
    own.destroy();
    plain.destroy();
  });
  const tree = (workgroupSize: number, tiles: number): Variant => ({
    name: `workgroup-${workgroupSize} on default limits`,
    reduce: 'workgroup',
    workgroupSize,
    tiles,
    tileLanes: Math.max(4, workgroupSize),
    attentionChunk: 128,
    attentionSpans: 1,
    products: 'plain',
    matrix: null,
  });
  return [
    new Bench(own, chooseVariant(own.traits), null),
    new Bench(plain, tree(4, 8), 0),
    new Bench(plain, tree(64, 1), 1),
    ...(matrix ? [matrix] : []),
  ];
}

/** Whether a case names f16 as the form of products, not as the type of weights. */
function isF16Case(one: unknown): boolean {
  const text = JSON.stringify(one);
  return text !== '"f16"' && text.includes('"f16"') && !text.includes('"type":"f16"');
}

/** What a pass finds in the control buffer: how far it came, and how far routes are followed behind a fault. */
export interface PassState {
  readonly fault?: number;
  readonly runAhead?: number;
  /** Whether a token is being drafted. */
  readonly isDraft?: boolean;
}

/** The control buffer, with what no kernel may lose in its other words. */
export function createControl(
  { fault = NO_FAULT, runAhead = 0, isDraft = false }: PassState = {},
  tokens = 1,
): Uint32Array {
  const control = new Uint32Array(CONTROL.nextToken + tokens).fill(SENTINEL);
  control[CONTROL.faultLayer] = fault;
  control[CONTROL.layersExecuted] = 5;
  control[CONTROL.runAhead] = runAhead;
  control[CONTROL.draft] = isDraft ? 1 : 0;
  return control;
}

/** Numbers in [0, 1) from a seed (mulberry32). */
export function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Numbers in [-amplitude, amplitude). */
export function randomFloats(random: () => number, count: number, amplitude = 1): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: count }, () => (random() * 2 - 1) * amplitude);
}

/**
 * The same numbers, magnitudes below 1, as what products of that form compute exactly. In 8 bits: multiples of 2^-7, the first
 * of every 32 the largest there can be. In f16: multiples of 2^-2, whose products with codes four halves can add.
 */
export function onGrid(values: Float32Array<ArrayBuffer>, products: Products): Float32Array<ArrayBuffer> {
  if (products === 'plain') return values;
  if (products === 'f16') return Float32Array.from(values, (value) => Math.trunc(value * 3.99) / 4);
  return Float32Array.from(values, (value, i) => (i % 32 === 0 ? 127 : Math.trunc(value * 127)) / 128);
}

/** Where a block has its f16 scales and minima. */
const HALVES: Partial<Record<WeightType, readonly number[]>> = {
  q4_1: [0, 2],
  q5_1: [0, 2],
  q2_k: [80, 82],
  q3_k: [108],
  q4_k: [0, 2],
  q5_k: [0, 2],
  q6_k: [208],
};

/** A random matrix of a weight type: its bytes in kernel layout, and what they mean. */
export function randomWeights(
  random: () => number,
  type: WeightType,
  rows: number,
  cols: number,
): { packed: Uint8Array<ArrayBuffer>; values: Float32Array } {
  const format = getWeightFormat(type);
  const count = rows * cols;
  const file = new Uint8Array((count / format.blockWeights) * format.blockBytes);
  const view = new DataView(file.buffer);
  // A half in ±[2^-7, 2^-1), or in ±[2^-12, 2^-6) where it scales other scales.
  const exponent = format.blockWeights === 256 ? 3 : 8;
  const randomHalf = () =>
    (random() < 0.5 ? 0x8000 : 0) | ((exponent + Math.floor(random() * 6)) << 10) | (random() * 1024);
  const float = new DataView(new ArrayBuffer(4));
  for (let at = 0; at < file.byteLength; at += format.blockBytes) {
    float.setFloat32(0, random() * 2 - 1);
    if (format.blockWeights > 1) for (let i = 0; i < format.blockBytes; i++) file[at + i] = random() * 256;
    if (type === 'f32') view.setFloat32(at, float.getFloat32(0), true);
    else if (type === 'bf16') view.setUint16(at, float.getUint16(0), true);
    else if (type === 'mxfp4') file[at] = 120 + random() * 6;
    else for (const offset of HALVES[type] ?? [0]) view.setUint16(at + offset, randomHalf(), true);
  }
  const packed = new Uint8Array(format.getPackedBytes(rows, cols));
  format.pack(file, rows, cols, packed, 0);
  return { packed, values: format.dequantize(packed, rows, cols) };
}

/** Fails with the worst element when |actual - expected| exceeds the tolerance, a number or one per element. */
export function expectClose(
  actual: Float32Array,
  expected: ArrayLike<number>,
  tolerance: number | ArrayLike<number>,
  what = '',
): void {
  expect(actual.length, `${what}: elements`).toBe(expected.length);
  let worst = 0;
  let worstAt = -1;
  for (let i = 0; i < actual.length; i++) {
    const allowed = typeof tolerance === 'number' ? tolerance : tolerance[i]!;
    const error = Math.abs(actual[i]! - expected[i]!);
    // Written so that a NaN fails.
    if (!(error <= allowed) && !(error / allowed <= worst)) {
      worst = error / allowed;
      worstAt = i;
    }
  }
  if (worstAt >= 0) {
    expect.fail(
      `${what}: element ${worstAt} is ${actual[worstAt]}, not ${expected[worstAt]}: ${worst} times the tolerance`,
    );
  }
}

/** Fails unless nothing was written. */
export function expectUntouched(actual: Float32Array | Uint32Array, what = ''): void {
  const at = actual.findIndex((value) => value !== SENTINEL && value !== Math.trunc(SENTINEL));
  if (at >= 0) expect.fail(`${what}: element ${at} is ${actual[at]}, not untouched`);
}

/** Fails with the first element whose bits differ. */
export function expectSameBits(actual: Float32Array, expected: Float32Array, what = ''): void {
  expect(actual.length, `${what}: elements`).toBe(expected.length);
  const a = new Uint32Array(actual.buffer, actual.byteOffset, actual.length);
  const b = new Uint32Array(expected.buffer, expected.byteOffset, expected.length);
  const at = a.findIndex((word, i) => word !== b[i]);
  if (at >= 0) expect.fail(`${what}: element ${at} is ${actual[at]}, not bit for bit ${expected[at]}`);
}
