import { describe, expect, it } from 'vitest';
import { createForecast, type Forecast, splitLayers } from '../../../src/engine/forecast';
import { TokenRoutes } from '../../../src/routing/token-routes';
import { createTokenTable } from '../../../src/routing/token-table';

const shape = { layers: 3, experts: 8, expertsPerToken: 2 };
const at = (tokenId: number) => ({ tokenId, position: 1, previousId: 0 });
const ROUTES = [
  [0, 1],
  [2, 3],
  [4, 5],
];

/** Teaches that a token id goes these ways, in turn. */
function teach(forecast: Forecast, tokens: number, ways: readonly (readonly number[][])[] = [ROUTES]): void {
  for (let i = 0; i < tokens; i++) {
    forecast.getExpected(at(7), 0.13);
    forecast.observe(at(7), ways[i % ways.length] as number[][]);
  }
}

/** A fault whose record holds these routes. */
const fault = (moeLayer: number, layers: readonly (readonly number[])[], runAhead: number) => ({
  moeLayer,
  rows: 1,
  routes: Uint32Array.from(layers.flat()),
  runAhead,
});

const getKeys = (pages: ReturnType<Forecast['getExpected']>): string[] =>
  pages.map(({ moeLayer, expert }) => `${moeLayer}/${expert}`);

describe('createForecast', () => {
  it.each(['recency', 'token', 'affinity', 'ensemble', 'none', 'lookahead'] as const)(
    '%s expects nothing before it has learnt, and nothing behind a fault without run-ahead',
    (name) => {
      const forecast = createForecast(name, shape);
      expect(forecast.getExpected(at(1), 0.13)).toEqual([]);
      expect(forecast.getExpectedBehind(at(1), fault(0, ROUTES, 0), 0.13)).toEqual([]);
      expect(forecast.looksAhead).toBe(name === 'lookahead' || name === 'ensemble');
    },
  );

  it('wants the pages that a token always used', () => {
    const forecast = createForecast('token', shape);
    teach(forecast, 20);
    const pages = forecast.getExpected(at(7), 0.13);
    expect(getKeys(pages).sort()).toEqual(['0/0', '0/1', '1/2', '1/3', '2/4', '2/5']);
    expect(pages.every(({ isWanted }) => isWanted)).toBe(true);
  });

  it('names the most probable first, wants from 0.13 on and protects from 0.078 on', () => {
    const forecast = createForecast('token', shape);
    // Of 1,000 tokens layer 0 used expert 0 always, expert 1 in 17 %, 2 in 12 %, 3 in 5 %, 4 in the rest.
    const ways = Array.from({ length: 100 }, (_, i) => [
      [0, i < 17 ? 1 : i < 29 ? 2 : i < 34 ? 3 : 4],
      [0, 1],
      [0, 1],
    ]);
    // Shuffled, so that no share is only the latest.
    const mixed = ways.map((_, i) => ways[(i * 37) % 100] as number[][]);
    teach(forecast, 200, mixed);
    const predictor = createTokenTable(shape);
    for (let i = 0; i < 200; i++) predictor.observe(at(7), TokenRoutes.fromLayers(mixed[i % 100] as number[][]));
    const scores = new Float32Array(24);
    predictor.predict(at(7), scores);

    const pages = forecast.getExpected(at(7), 0.13);
    const first = pages.filter(({ moeLayer }) => moeLayer === 0);
    expect(first.map(({ expert }) => expert)).toEqual([0, 4, 1, 2]);
    expect(first.map(({ isWanted }) => isWanted)).toEqual([true, true, true, false]);
    for (const { moeLayer, expert, isWanted } of pages) {
      const score = scores[moeLayer * 8 + expert] as number;
      expect(score).toBeGreaterThanOrEqual(0.078);
      expect(isWanted).toBe(score >= 0.13);
    }
    const ordered = pages.map(({ moeLayer, expert }) => scores[moeLayer * 8 + expert] as number);
    expect(ordered).toEqual([...ordered].sort((a, b) => b - a));
  });

  it.each(['none', 'lookahead'] as const)('%s takes what ran ahead as it is, of the layers behind alone', (name) => {
    const forecast = createForecast(name, shape);
    const pages = forecast.getExpectedBehind(at(1), fault(0, ROUTES, 4), 0.13);
    expect(getKeys(pages)).toEqual(['1/2', '1/3', '2/4', '2/5']);
    expect(pages.every(({ isWanted }) => isWanted)).toBe(true);
    const routed = forecast.getExpectedBehind(at(1), fault(1, ROUTES, 1), 0.13).filter(({ isWanted }) => isWanted);
    expect(getKeys(routed)).toEqual(['2/4', '2/5']);
    expect(forecast.getExpectedBehind(at(1), fault(2, ROUTES, 4), 0.13)).toEqual([]);
  });

  it('names a page once that several rows chose', () => {
    const forecast = createForecast('none', shape);
    const routes = Uint32Array.from([0, 1, 0, 1, 2, 3, 3, 2, 4, 5, 4, 6]);
    const pages = forecast.getExpectedBehind(at(1), { moeLayer: 0, rows: 2, routes, runAhead: 1 }, 0.13);
    expect(getKeys(pages)).toEqual(['1/2', '1/3', '2/4', '2/5', '2/6']);
  });

  it('puts layers that ran in shadow first, then what the predictor adds, no page twice', () => {
    const forecast = createForecast('token', shape);
    teach(forecast, 20);
    const shadow = [
      [0, 1],
      [6, 2],
      [7, 4],
    ];
    const pages = forecast.getExpectedBehind(at(7), fault(0, shadow, 4), 0.13);
    expect(getKeys(pages).slice(0, 4)).toEqual(['1/6', '1/2', '2/7', '2/4']);
    expect(getKeys(pages).slice(4).sort()).toEqual(['1/3', '2/5']);
  });

  it('what routers on an old residual choose becomes more probable, and counts beside the rest', () => {
    const forecast = createForecast('ensemble', shape);
    // Layer 1: expert 3 in every tenth token, below what is wanted.
    const ways = Array.from({ length: 10 }, (_, i) => [
      [0, 1],
      [2, i === 4 ? 3 : 5],
      [4, 5],
    ]);
    teach(forecast, 200, ways);
    const find = (routers: readonly (readonly number[])[], runAhead: number, expert: number) => {
      forecast.getExpected(at(7), 0.13);
      return forecast
        .getExpectedBehind(at(7), fault(0, routers, runAhead), 0.13)
        .find((page) => page.moeLayer === 1 && page.expert === expert);
    };
    const silent = [
      [0, 1],
      [2, 5],
      [4, 5],
    ];
    const seconding = [
      [0, 1],
      [3, 7],
      [4, 5],
    ];
    expect(find(silent, 1, 3)?.isWanted ?? false).toBe(false);
    expect(find(seconding, 1, 3)).toMatchObject({ isWanted: true });
    expect(find(seconding, 4, 7)).toMatchObject({ isWanted: true });
  });

  it.each(['recency', 'token', 'affinity', 'ensemble'] as const)(
    '%s expects the same after save and restore',
    (name) => {
      const [one, other] = [createForecast(name, shape), createForecast(name, shape)];
      teach(one, 50);
      other.restore(structuredClone(one.save()) as NonNullable<ReturnType<Forecast['save']>>);
      expect(other.getExpected(at(7), 0.13)).toEqual(one.getExpected(at(7), 0.13));
      expect(other.getExpectedBehind(at(7), fault(0, ROUTES, 0), 0.13)).toEqual(
        one.getExpectedBehind(at(7), fault(0, ROUTES, 0), 0.13),
      );
      expect(other.getExpectedBehind(at(7), fault(0, ROUTES, 0), 0.13).length).toBeGreaterThan(0);
    },
  );

  it('counts which answers of the learned predictor came before the token, and which behind a fault of it', () => {
    const answer = new Float32Array(24);
    let known: Float32Array | null = null;
    const pathModel = { push() {}, get: () => known, waitFor: async () => {}, close() {} };
    const forecast = createForecast('ensemble+learned', shape, pathModel);
    const runToken = (before: boolean, behind: boolean): void => {
      known = before ? answer : null;
      forecast.getExpected(at(7), 0.13);
      for (const layer of [0, 1]) {
        if (behind) known = answer;
        forecast.getExpectedBehind(at(7), fault(layer, ROUTES, 0), 0.13);
      }
    };
    runToken(true, true);
    runToken(false, true);
    runToken(false, false);
    runToken(true, false);
    expect(forecast.answers).toEqual({ asked: 4, inTime: 2, late: 1 });
    forecast.resetAnswers();
    expect(forecast.answers).toEqual({ asked: 0, inTime: 0, late: 0 });
  });

  it('refuses the state of another predictor with CORRUPT', () => {
    const state = createForecast('recency', shape).save();
    expect(() => createForecast('token', shape).restore(state as NonNullable<typeof state>)).toThrow(
      expect.objectContaining({ code: 'CORRUPT' }),
    );
  });
});

it('splitLayers cuts [layers, rows, k] at the layers', () => {
  expect(splitLayers(Uint32Array.of(1, 2, 3, 4, 5, 6), 3).map((layer) => [...layer])).toEqual([
    [1, 2],
    [3, 4],
    [5, 6],
  ]);
});
