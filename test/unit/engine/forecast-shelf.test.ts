import { expect, it } from 'vitest';
import { ForecastShelf } from '../../../src/engine/forecast-shelf';
import { createMemoryStore } from '../../../src/store/memory-store';
import { buildTestManifest } from '../test-manifest';

const manifest = await buildTestManifest();
const { moeLayers, moe } = manifest.config;
const context = { tokenId: 3, position: 0 };
const routes = moeLayers.map(() => Array.from({ length: moe.expertsPerToken }, (_, expert) => expert));

it('keeps one forecast per predictor as long as the model is loaded', async () => {
  const shelf = new ForecastShelf(manifest, createMemoryStore());
  const forecast = await shelf.get('token');
  expect(await shelf.get('token')).toBe(forecast);
  expect(await shelf.get('recency')).not.toBe(forecast);
  expect(shelf.takeWarnings()).toEqual([]);
});

it('gives the next visit what was learnt, by predictor and model', async () => {
  const store = createMemoryStore();
  const first = new ForecastShelf(manifest, store);
  const learnt = await first.get('ensemble');
  for (let i = 0; i < 20; i++) {
    learnt.getExpected(context);
    learnt.observe(context, routes);
  }
  await first.save(learnt);

  const second = new ForecastShelf(manifest, store);
  const restored = await second.get('ensemble');
  expect(restored).not.toBe(learnt);
  const pages = restored.getExpected(context);
  expect(pages.length).toBeGreaterThan(0);
  expect(pages).toEqual(learnt.getExpected(context));
  expect(second.takeWarnings()).toEqual([]);
  expect((await second.get('token')).getExpected(context)).toEqual([]);
  const other = new ForecastShelf({ ...manifest, modelId: 'another' }, store);
  expect((await other.get('ensemble')).getExpected(context)).toEqual([]);
});

it('writes nothing for forecasts that learn nothing', async () => {
  const store = createMemoryStore();
  const shelf = new ForecastShelf(manifest, store);
  for (const name of ['none'] as const) {
    await shelf.save(await shelf.get(name));
    expect(await store.readState(manifest.modelId, `predictor-${name}`)).toBeUndefined();
  }
});

it.each([
  ['of another shape', { predictor: 'recency', version: 1, layers: 99, experts: 2, arrays: {} }],
  [
    'without its arrays',
    { predictor: 'recency', version: 1, layers: moeLayers.length, experts: moe.experts, arrays: {} },
  ],
  ['that is no state', 'garbage'],
  ['that is null', null],
])('starts cold with one warning from a state %s', async (_, state) => {
  const store = createMemoryStore();
  await store.writeState(manifest.modelId, 'predictor-recency', state);
  const shelf = new ForecastShelf(manifest, store);
  const forecast = await shelf.get('recency');
  expect(forecast.getExpected(context)).toEqual([]);
  const warnings = shelf.takeWarnings();
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toMatch(/predictor recency had learnt is lost, it starts anew: .*learnt anew/);
  expect(shelf.takeWarnings()).toEqual([]);
  await shelf.save(forecast);
  expect((await new ForecastShelf(manifest, store).get('recency')).name).toBe('recency');
});

it('warns and goes on when the store cannot be read or written', async () => {
  const store = createMemoryStore();
  await store.close();
  const shelf = new ForecastShelf(manifest, store);
  const forecast = await shelf.get('token');
  await shelf.save(forecast);
  const warnings = shelf.takeWarnings();
  expect(warnings).toHaveLength(2);
  expect(warnings[1]).toMatch(/predictor token learnt could not be kept: .*store is closed/);
});
