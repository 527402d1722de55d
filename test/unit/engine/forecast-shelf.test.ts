import { afterEach, expect, it, vi } from 'vitest';
import { ForecastShelf, type OpenPathModel } from '../../../src/engine/forecast-shelf';
import type { PathModel } from '../../../src/routing/learned';
import type { Predictor } from '../../../src/routing/predictor';
import { createPredictor } from '../../../src/routing/predictors';
import { formatStateFile } from '../../../src/routing/state-file';
import { TokenRoutes } from '../../../src/routing/token-routes';
import { createMemoryStore } from '../../../src/store/memory-store';
import { buildTestManifest } from '../test-manifest';

const manifest = await buildTestManifest();
const { moeLayers, moe } = manifest.config;
const context = { tokenId: 3, position: 0, previousId: null };
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
    learnt.getExpected(context, 0.13);
    learnt.observe(context, routes);
  }
  await first.save(learnt, true);

  const second = new ForecastShelf(manifest, store);
  const restored = await second.get('ensemble');
  expect(restored).not.toBe(learnt);
  const pages = restored.getExpected(context, 0.13);
  expect(pages.length).toBeGreaterThan(0);
  expect(pages).toEqual(learnt.getExpected(context, 0.13));
  expect(second.takeWarnings()).toEqual([]);
  expect((await second.get('token')).getExpected(context, 0.13)).toEqual([]);
  const other = new ForecastShelf({ ...manifest, modelId: 'another' }, store);
  expect((await other.get('ensemble')).getExpected(context, 0.13)).toEqual([]);
});

it('writes nothing for forecasts that learn nothing', async () => {
  const store = createMemoryStore();
  const shelf = new ForecastShelf(manifest, store);
  for (const name of ['none'] as const) {
    const forecast = await shelf.get(name);
    forecast.observe(context, routes);
    await shelf.save(forecast, true);
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
  expect(forecast.getExpected(context, 0.13)).toEqual([]);
  const warnings = shelf.takeWarnings();
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toMatch(/predictor recency had learnt is lost, it starts anew: .*learnt anew/);
  expect(shelf.takeWarnings()).toEqual([]);
  await shelf.save(forecast, true);
  expect((await new ForecastShelf(manifest, store).get('recency')).name).toBe('recency');
});

it('warns and goes on when the store cannot be read or written', async () => {
  const store = createMemoryStore();
  await store.close();
  const shelf = new ForecastShelf(manifest, store);
  const forecast = await shelf.get('token');
  forecast.observe(context, routes);
  await shelf.save(forecast, true);
  const warnings = shelf.takeWarnings();
  expect(warnings).toHaveLength(2);
  expect(warnings[1]).toMatch(/predictor token learnt could not be kept: .*store is closed/);
});

/** Calls of `never`. */
let openings = 0;
afterEach(() => {
  openings = 0;
  vi.unstubAllGlobals();
});

/** Answers these URLs; everything else is not there. */
function serve(files: Readonly<Record<string, Uint8Array>>): string[] {
  const asked: string[] = [];
  vi.stubGlobal('fetch', async (url: string) => {
    asked.push(url);
    const file = files[url];
    return file ? new Response(file as BodyInit) : new Response(null, { status: 404 });
  });
  return asked;
}

function teachEnsemble(): Uint8Array {
  const shape = { layers: moeLayers.length, ...moe };
  const ensemble = createPredictor('ensemble', shape, { looksAhead: true }) as Predictor;
  const scores = new Float32Array(shape.layers * shape.experts);
  for (let i = 0; i < 40; i++) {
    ensemble.predict(context, scores);
    ensemble.observe(context, TokenRoutes.fromLayers(routes));
  }
  return formatStateFile(ensemble.save());
}

it('begins with what came with the model, but for what an earlier visit learnt', async () => {
  serve({ 'http://x/taught': teachEnsemble() });
  const store = createMemoryStore();
  const files = { taughtUrl: 'http://x/taught' };
  const shelf = new ForecastShelf(manifest, store, { files });
  for (const name of ['ensemble', 'token', 'recency'] as const) {
    expect((await shelf.get(name)).getExpected(context, 0.13).length, name).toBeGreaterThan(0);
  }
  expect(shelf.takeWarnings()).toEqual([]);
  // What is kept goes first, even where it knows less.
  const cold = new ForecastShelf(manifest, store);
  const other = await cold.get('token');
  other.observe({ tokenId: 9, position: 0, previousId: null }, [...routes].reverse());
  await cold.save(other, true);
  const again = await new ForecastShelf(manifest, store, { files }).get('token');
  expect(again.getExpected(context, 0.13)).toEqual(other.getExpected(context, 0.13));
});

it('starts cold, with one warning, where the file is missing or of another model', async () => {
  serve({ 'http://x/short': teachEnsemble().subarray(0, 50) });
  for (const taughtUrl of ['http://x/none', 'http://x/short']) {
    const shelf = new ForecastShelf(manifest, createMemoryStore(), { files: { taughtUrl } });
    expect((await shelf.get('ensemble')).getExpected(context, 0.13)).toEqual([]);
    expect(shelf.takeWarnings()).toEqual([expect.stringContaining(taughtUrl)]);
  }
});

it('writes what was learnt after the first answer, then every some hundred tokens, and the rest when the model goes', async () => {
  const store = createMemoryStore();
  const shelf = new ForecastShelf(manifest, store);
  const forecast = await shelf.get('token');
  const isWritten = async () => (await store.readState(manifest.modelId, 'predictor-token')) !== undefined;
  forecast.observe(context, routes);
  await shelf.save(forecast);
  expect(await isWritten()).toBe(true);
  await store.writeState(manifest.modelId, 'predictor-token', undefined);
  for (let i = 0; i < 255; i++) forecast.observe(context, routes);
  await shelf.save(forecast);
  expect(await isWritten()).toBe(false);
  forecast.observe(context, routes);
  await shelf.save(forecast);
  expect(await isWritten()).toBe(true);
  await store.writeState(manifest.modelId, 'predictor-token', undefined);
  await shelf.close();
  expect(await isWritten()).toBe(false);
  forecast.observe(context, routes);
  await shelf.close();
  expect(await isWritten()).toBe(true);
});

const silent: PathModel = { push() {}, get: () => null, waitFor: async () => {}, close() {} };

it('finds the learned network beside the model, and keeps it', async () => {
  const asked = serve({ 'http://x/model.routes.onnx': Uint8Array.of(7) });
  const store = createMemoryStore();
  const opened: Uint8Array[] = [];
  const openPathModel = async (network: Uint8Array) => {
    opened.push(network);
    return silent;
  };
  const sources = { modelUrl: 'http://x/model.gguf?a=b', openPathModel };
  const shelf = new ForecastShelf(manifest, store, sources);
  expect((await shelf.get('learned')).name).toBe('learned');
  await shelf.get('ensemble+learned');
  expect(opened).toHaveLength(1);
  await new ForecastShelf(manifest, store, sources).get('learned');
  expect(opened).toEqual([Uint8Array.of(7), Uint8Array.of(7)]);
  expect(asked).toEqual(['http://x/model.routes.onnx']);
});

it.each([
  ['without a worker', {}, /made without one; use createEngine/],
  [
    'of a file that is nowhere',
    { openPathModel: async () => silent },
    /none was named; name one in forecast.learnedUrl/,
  ],
  [
    'that is not there',
    { openPathModel: async () => silent, files: { learnedUrl: 'http://x/none' } },
    /there is none at http:\/\/x\/none/,
  ],
])('a learned predictor %s is refused, and others go on', async (_, sources, message) => {
  serve({});
  const shelf = new ForecastShelf(manifest, createMemoryStore(), sources);
  await expect(shelf.get('ensemble+learned')).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringMatching(message),
  });
  expect((await shelf.get('ensemble')).name).toBe('ensemble');
});

const never: OpenPathModel = (_network, _shape, _onFailure, signal) =>
  new Promise((_resolve, reject) => {
    openings++;
    signal.addEventListener('abort', () => reject(signal.reason));
  });

it('hears an abort while a predictor opens, and ends the opening when the model goes', async () => {
  serve({ 'http://x/network': Uint8Array.of(7) });
  const sources = { openPathModel: never, files: { learnedUrl: 'http://x/network' } };
  const shelf = new ForecastShelf(manifest, createMemoryStore(), sources);
  const controller = new AbortController();
  const first = shelf.get('learned', controller.signal);
  controller.abort();
  await expect(first).rejects.toMatchObject({ code: 'ABORTED' });
  await expect(shelf.get('learned', AbortSignal.abort())).rejects.toMatchObject({ code: 'ABORTED' });
  const waiting = shelf.get('learned', new AbortController().signal).catch((error: unknown) => error);
  await vi.waitFor(() => expect(openings).toBe(1));
  await shelf.close();
  expect(await waiting).toMatchObject({ name: 'AbortError' });
});

it('opens no predictor any more once the model goes', async () => {
  serve({ 'http://x/network': Uint8Array.of(7) });
  const sources = { openPathModel: never, files: { learnedUrl: 'http://x/network' } };
  const shelf = new ForecastShelf(manifest, createMemoryStore(), sources);
  const waiting = shelf.get('learned').catch((error: unknown) => error);
  await shelf.close();
  expect(await waiting).toMatchObject({ code: 'ABORTED' });
  expect(openings).toBe(0);
});

it.each(['ensemble', 'learned'] as const)('hears an abort while a file of the predictor %s is read', async (name) => {
  let reads = 0;
  vi.stubGlobal('fetch', (_url: string, { signal }: RequestInit) => {
    reads++;
    return new Promise((_resolve, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason));
    });
  });
  const files = { taughtUrl: 'http://x/taught', learnedUrl: 'http://x/network' };
  const shelf = new ForecastShelf(manifest, createMemoryStore(), { openPathModel: never, files });
  const controller = new AbortController();
  const forecast = shelf.get(name, controller.signal);
  await vi.waitFor(() => expect(reads).toBe(1));
  controller.abort();
  await expect(forecast).rejects.toMatchObject({ code: 'ABORTED' });
  await shelf.close();
  expect(reads).toBe(1);
});
