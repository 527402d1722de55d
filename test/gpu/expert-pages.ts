/** Random experts as pages in kernel layout, spread over two slot buffers. Shared by the tests of both expert kernels. */
import type { WeightType } from '../../src/checkpoint/model-config';
import type { DeviceBuffer } from '../../src/gpu/memory';
import type { BindingResource } from '../../src/gpu/program';
import type { Products } from '../../src/kernels/variant';
import { matvec } from '../reference/matvec';
import { ABSENT, type Bench, createRandom, type PROMISED, randomFloats, randomWeights } from './harness';
import { LAYER, LAYERS } from './modes';

export interface ExpertShape {
  readonly type: WeightType;
  readonly experts: number;
  readonly topK: number;
  readonly hidden: number;
  readonly width: number;
  /** Whether experts have biases, and gpt-oss's activation. */
  readonly isClamped?: boolean;
  /** Whether experts have no gate: of the two matrices the first is used. */
  readonly isUngated?: boolean;
  /** What products round to: activations must be `onGrid`. */
  readonly products?: Products;
}

export interface Expert {
  readonly gate: Float32Array; // [width, hidden]
  readonly up: Float32Array; // [width, hidden]
  readonly down: Float32Array; // [hidden, width]
  /** Zeros unless the shape has biases. */
  readonly biases: { readonly gate: Float32Array; readonly up: Float32Array; readonly down: Float32Array };
  readonly page: Uint8Array<ArrayBuffer>;
}

export interface Pages {
  readonly experts: readonly Expert[];
  readonly pageQuads: number;
  /** First quad of gate, up and down in a page, and of their biases. */
  readonly bases: readonly number[];
}

/** Where each expert lies: a slot, or null for absent. Slots below `firstBufferSlots` are in the first buffer. */
export interface Placement {
  readonly slots: readonly (number | null)[];
  readonly firstBufferSlots: number;
  readonly allSlots: number;
}

export function createPages({ type, experts, hidden, width, isClamped = false }: ExpertShape): Pages {
  const random = createRandom(experts * width);
  const made = Array.from({ length: experts }, () => {
    const gate = randomWeights(random, type, width, hidden);
    const up = randomWeights(random, type, width, hidden);
    const down = randomWeights(random, type, hidden, width);
    const [gateBias, upBias, downBias] = [width, width, hidden].map((count) =>
      isClamped ? randomFloats(random, count, 2) : new Float32Array(count),
    );
    return { gate, up, down, biases: { gate: gateBias!, up: upBias!, down: downBias! } };
  });
  const { gate, up, down } = made[0]!;
  // A quad of nothing before, between and behind the matrices: a base or a size that is ignored shows.
  const bases: [number, number, number] = [
    1,
    2 + gate.packed.length / 16,
    3 + (gate.packed.length + up.packed.length) / 16,
  ];
  const gateBias = bases[2] + down.packed.length / 16 + 1;
  const biasBases = [gateBias, gateBias + width / 4, gateBias + width / 2] as const;
  const pageQuads = biasBases[2] + hidden / 4 + 1;
  return {
    bases: [...bases, ...biasBases],
    pageQuads,
    experts: made.map((expert) => {
      const page = new Uint8Array(pageQuads * 16).fill(0x55);
      page.set(expert.gate.packed, bases[0] * 16);
      page.set(expert.up.packed, bases[1] * 16);
      page.set(expert.down.packed, bases[2] * 16);
      const { biases } = expert;
      [biases.gate, biases.up, biases.down].forEach((bias, i) => {
        if (isClamped) page.set(new Uint8Array(bias.buffer), biasBases[i]! * 16);
      });
      return { gate: expert.gate.values, up: expert.up.values, down: expert.down.values, biases, page };
    }),
  };
}

/** Data of the two slot buffers and of the page table. */
export function layOut(pages: Pages, placement: Placement, absent: typeof ABSENT | typeof PROMISED = ABSENT) {
  const pageBytes = pages.pageQuads * 16;
  const low = new Uint8Array(placement.firstBufferSlots * pageBytes).fill(0x55);
  const high = new Uint8Array((placement.allSlots - placement.firstBufferSlots) * pageBytes).fill(0x55);
  const pageTable = new Uint32Array(LAYERS * pages.experts.length).fill(absent);
  placement.slots.forEach((slot, expert) => {
    if (slot === null) return;
    pageTable[LAYER * pages.experts.length + expert] = slot;
    const inLow = slot < placement.firstBufferSlots;
    const buffer = inLow ? low : high;
    buffer.set(pages.experts[expert]!.page, (inLow ? slot : slot - placement.firstBufferSlots) * pageBytes);
  });
  return { low, high, pageTable };
}

/** The uniforms of both slot buffers, for the buffers just placed on the bench. */
export function createPools(
  bench: Bench,
  pages: Pages,
  placement: Placement,
  low: DeviceBuffer,
  high: DeviceBuffer,
): { pool: BindingResource; weights: DeviceBuffer }[] {
  const { firstBufferSlots, allSlots } = placement;
  const rest = [pages.pageQuads, ...pages.bases];
  return [
    { pool: bench.uniform(LAYER, 0, firstBufferSlots, ...rest), weights: low },
    { pool: bench.uniform(LAYER, firstBufferSlots, allSlots - firstBufferSlots, ...rest), weights: high },
  ];
}

/** Route ids of all layers: those of the others are out of range, so that reading them shows. */
export function layOutRoutes(routes: readonly (readonly number[])[]): Uint32Array {
  const own = routes.flat();
  const all = new Uint32Array(LAYERS * own.length).fill(0xffff);
  all.set(own, LAYER * own.length);
  return all;
}

/** Shapes both kernels are tested in: every type, widths that are no multiple of 64, k = experts, one expert. */
type ExpertCase = ExpertShape & { routes: number[][]; placement: Placement };

const UNPACKED_CASES: readonly ExpertCase[] = [
  ...(['q4_0', 'f32', 'q8_0', 'f16', 'bf16'] as const).map((type) => ({
    type,
    experts: 6,
    topK: 2,
    hidden: 96,
    width: 160,
    routes: [
      [4, 0],
      [2, 3],
      [0, 5],
    ],
    // Expert 3 is absent; 0 and 5 are in the second buffer.
    placement: { slots: [4, 1, 2, null, 0, 3], firstBufferSlots: 3, allSlots: 5 },
  })),
  {
    type: 'q4_0',
    experts: 4,
    topK: 4,
    hidden: 160,
    width: 32,
    routes: [
      [3, 1, 0, 2],
      [0, 1, 2, 3],
      [2, 3, 1, 0],
    ],
    placement: { slots: [1, null, 3, 0], firstBufferSlots: 2, allSlots: 4 },
  },
  {
    type: 'f32',
    experts: 3,
    topK: 2,
    hidden: 32,
    width: 64,
    isClamped: true,
    routes: [
      [2, 0],
      [1, 2],
    ],
    placement: { slots: [0, 2, 1], firstBufferSlots: 2, allSlots: 3 },
  },
  {
    type: 'q8_0',
    experts: 3,
    topK: 2,
    hidden: 64,
    width: 96,
    isUngated: true,
    routes: [
      [2, 0],
      [1, 2],
    ],
    placement: { slots: [0, 2, 1], firstBufferSlots: 2, allSlots: 3 },
  },
  {
    type: 'q8_0',
    experts: 1,
    topK: 1,
    hidden: 32,
    width: 96,
    routes: [[0]],
    placement: { slots: [1], firstBufferSlots: 1, allSlots: 2 },
  },
  ...(['q4_1', 'q5_0', 'q5_1', 'iq4_nl', 'mxfp4', 'q2_k', 'q3_k', 'q4_k', 'q5_k', 'q6_k'] as const).map((type) => ({
    type,
    experts: 3,
    topK: 2,
    hidden: type.endsWith('_k') ? 256 : 96,
    width: type.endsWith('_k') ? 512 : 160,
    routes: [
      [2, 0],
      [1, 2],
    ],
    placement: { slots: [2, null, 0], firstBufferSlots: 2, allSlots: 3 },
  })),
];

export const EXPERT_CASES: readonly ExpertCase[] = [
  ...UNPACKED_CASES,
  ...(['packed', 'f16'] as const).flatMap((products) =>
    ['q4_0', 'q8_0'].map((type) => ({ ...UNPACKED_CASES.find((one) => one.type === type)!, products })),
  ),
];

/** From bounds of both dot products; silu changes by at most 1.1 times its argument's error. */
export function getGateUpTolerance(gate: Float32Array, up: Float32Array | null, x: Float32Array): Float64Array {
  const width = gate.length / x.length;
  const bound = (w: Float32Array) =>
    matvec(w.map(Math.abs), x.map(Math.abs), width, x.length).map((sum) => (x.length + 8) * 2 ** -24 * sum);
  const g = matvec(gate, x, width, x.length);
  const u = up ? matvec(up, x, width, x.length) : new Float64Array(width).fill(1);
  const [gateBound, upBound] = [bound(gate), up ? bound(up) : new Float64Array(width)];
  return g.map((value, i) => {
    const silu = value / (1 + Math.exp(-value));
    return 1.1 * gateBound[i]! * Math.abs(u[i]!) + Math.abs(silu) * upBound[i]! + 2e-6 * Math.abs(silu * u[i]!) + 1e-30;
  });
}
