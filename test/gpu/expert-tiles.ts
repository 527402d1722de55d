/** Many rows' routes over random experts, and the tiles of them. Shared by the tests of both tiled expert kernels. */
import type { DeviceBuffer } from '../../src/gpu/memory';
import type { Command } from '../../src/kernels/command';
import type { ExpertDownSpec } from '../../src/kernels/expert-down';
import { compileRouteOrder, getMostTiles, TILE_WORDS } from '../../src/kernels/route-order';
import { createMoe } from '../plain-config';
import { createPools, type ExpertShape, layOut, layOutRoutes, type Pages, type Placement } from './expert-pages';
import { type Bench, createRandom } from './harness';
import { LAYER } from './modes';

/** Expert 3 of six is absent; 0 and 5 are in the second buffer. */
export const PLACEMENT: Placement = { slots: [4, 1, 2, null, 0, 3], firstBufferSlots: 3, allSlots: 5 };

/** The same experts elsewhere, and none absent. */
export const ELSEWHERE: Placement = { slots: [0, 3, 1, 5, 2, 4], firstBufferSlots: 2, allSlots: 6 };

/** Every type, biases with gpt-oss's activation, and experts without a gate. */
export const TILED_SHAPES: readonly ExpertShape[] = [
  ...(['q4_0', 'f32', 'q8_0', 'f16', 'bf16'] as const).map((type) => ({ type, isClamped: false })),
  { type: 'f32' as const, isClamped: true },
  { type: 'q8_0' as const, isUngated: true },
].map((form) => ({ ...form, experts: 6, topK: 2, hidden: 96, width: 160 }));

export const CLAMPED = { kind: 'clamped', alpha: 1.7, limit: 1.5 } as const;

export function getTiledSpec({
  type,
  experts,
  topK,
  hidden,
  width,
  isClamped = false,
  isUngated = false,
}: ExpertShape): ExpertDownSpec {
  const moe = createMoe({
    experts,
    expertsPerToken: topK,
    expertWidth: width,
    isGated: !isUngated,
    ...(isClamped && { expertBias: true, activation: CLAMPED }),
  });
  return { type, moe, hiddenSize: hidden };
}

/** Expert 0 for nearly every row, so that it has more than a tile; the second by chance. */
export function createRoutes(rows: number): number[][] {
  const random = createRandom(rows);
  return Array.from({ length: rows }, (_, row) => {
    const other = 1 + Math.floor(random() * 5);
    return row % 7 === 3 ? [other, 1 + (other % 5)] : row % 2 === 0 ? [0, other] : [other, 0];
  });
}

export interface TileBuffers {
  readonly order: DeviceBuffer;
  readonly tiles: DeviceBuffer;
  readonly pageTable: DeviceBuffer;
}

/** Places everything, sorts the routes and runs a kernel on each slot buffer. Returns the result buffer's floats. */
export async function runTiled<K extends string>(
  bench: Bench,
  shape: ExpertShape,
  input: { pages: Pages; placement: Placement; routes: readonly (readonly number[])[]; buffers?: number },
  data: Readonly<Record<K | 'result', Float32Array>>,
  bind: (
    buffers: Record<K | 'result', DeviceBuffer> & TileBuffers,
    pool: ReturnType<typeof createPools>[number],
  ) => Command,
): Promise<Float32Array> {
  const rows = input.routes.length;
  const spec = { experts: shape.experts, expertsPerToken: shape.topK };
  const sort = await bench.compileOnce(spec, () => compileRouteOrder(bench.device, bench.variant, spec));
  const placed = await bench.place({
    ...layOut(input.pages, input.placement),
    ...data,
    routeIds: layOutRoutes(input.routes),
    order: new Uint32Array(rows * shape.topK),
    tiles: new Uint32Array(getMostTiles(spec, rows) * TILE_WORDS),
  });
  const buffers = placed as unknown as Record<K | 'result', DeviceBuffer> &
    TileBuffers & { routeIds: DeviceBuffer; low: DeviceBuffer; high: DeviceBuffer };
  const { order, tiles, routeIds, low, high } = buffers;
  const [moeLayer, step] = [bench.uniform(LAYER), bench.uniform(rows, 0)];
  const pools = createPools(bench, input.pages, input.placement, low, high).slice(0, input.buffers ?? 2);
  const [bytes] = await bench.run(
    [
      [sort.bind({ moeLayer, step, routeIds, order, tiles }), rows] as const,
      ...pools.map((pool) => [bind(buffers, pool), rows] as const),
    ],
    [buffers.result],
  );
  return new Float32Array(bytes!, 0, data.result.length);
}
