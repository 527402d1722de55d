import { describe, expect, it } from 'vitest';
import { compileRouteOrder, getMostTiles, TILE_TOKENS, TILE_WORDS } from '../../src/kernels/route-order';
import { NO_EXPERT } from '../../src/kernels/router-topk';
import { routeOrder } from '../reference/route-order';
import { layOutRoutes } from './expert-pages';
import { createRandom, openBenches } from './harness';
import { LAYER } from './modes';

const CASES = [
  { experts: 1, topK: 1, rows: 1 },
  { experts: 5, topK: 2, rows: 37 },
  { experts: 32, topK: 4, rows: 64 },
  { experts: 64, topK: 8, rows: 3 },
  { experts: 128, topK: 8, rows: 48 },
  // Rows that choose fewer than they may.
  { experts: 7, topK: 5, rows: 41, mostPerRow: 2 },
];

const benches = await openBenches();

describe.each(benches)('route_order, $name', (bench) => {
  it.each(CASES)(
    'sorts the choices of $rows rows among $experts experts, top $topK',
    async ({ experts, topK, rows, mostPerRow = topK }) => {
      const random = createRandom(experts + rows);
      // Some experts often, some never.
      const routes = Array.from({ length: rows }, () => {
        const ids = Array.from({ length: experts }, (_, id) => [random() ** 2 * (1 + id), id] as const);
        return ids
          .sort((a, b) => b[0] - a[0])
          .slice(0, topK)
          .map(([, id], rank) => (rank >= mostPerRow ? NO_EXPERT : id));
      });
      const spec = { experts, expertsPerToken: topK };
      const mostTiles = getMostTiles(spec, rows);
      const kernel = await bench.compileOnce(spec, () => compileRouteOrder(bench.device, bench.variant, spec));
      const { order, tiles, routeIds } = await bench.place({
        routeIds: layOutRoutes(routes),
        order: new Uint32Array(rows * topK).fill(0xffff),
        tiles: new Uint32Array(mostTiles * TILE_WORDS).fill(0xffff),
      });
      const [moeLayer, step] = [bench.uniform(LAYER), bench.uniform(rows, 0)];
      const results = await bench.run(
        [[kernel.bind({ moeLayer, step, routeIds, order, tiles }), rows]],
        [order, tiles],
      );
      const sorted = new Uint32Array(results[0]!, 0, rows * topK);
      const words = new Uint32Array(results[1]!, 0, mostTiles * TILE_WORDS);
      const found = Array.from({ length: experts }, (): number[] => []);
      const list = Array.from({ length: mostTiles }, (_, i) => [
        ...words.subarray(i * TILE_WORDS, (i + 1) * TILE_WORDS),
      ]);
      const used = list.findIndex(([, , count]) => count === 0);
      let next = 0;
      for (const [expert, first, count] of list.slice(0, used < 0 ? mostTiles : used) as [number, number, number][]) {
        expect(count).toBeLessThanOrEqual(TILE_TOKENS);
        expect(first, 'tiles lie end to end').toBe(next);
        next = first + count;
        found[expert]!.push(...sorted.subarray(first, next));
      }
      if (used >= 0)
        expect(
          list.slice(used).every(([, , count]) => count === 0),
          'nothing behind the last',
        ).toBe(true);
      expect(found.map((group) => group.sort((a, b) => a - b))).toEqual(routeOrder(routes.flat(), experts));
    },
  );
});
