import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { ModelSource } from '../../../src/engine/engine';
import { fetchForStart } from '../../../src/engine/fetch-for-start';
import { openSource } from '../../../src/engine/open-source';
import { EngineError } from '../../../src/errors';
import { createMemoryStore } from '../../../src/store/memory-store';
import type { ModelStore } from '../../../src/store/model-store';
import { type OpenModelOptions, removeModel } from '../../../src/store/open-model';
import { createHubFile, type Hub, startHub } from '../../hub/hub';

const golden = new URL('../../golden/e5k1-gqa-q4_0.gguf.gz', import.meta.url);
const file = new Uint8Array(gunzipSync(readFileSync(golden)));

let hub: Hub;
let store: ModelStore;
let sources: readonly ModelSource[];
beforeEach(async () => {
  hub = await startHub({ repositories: { 'some/model': { 'tiny.gguf': createHubFile(file) } } });
  sources = [
    { kind: 'url', url: `${hub.url}some/model/resolve/main/tiny.gguf` },
    { kind: 'url', url: 'hf:some/model', hubUrl: hub.url },
  ];
  store = createMemoryStore();
});
afterEach(() => hub.close());

type Fetch = typeof globalThis.fetch;
const open = (source: ModelSource, options: OpenModelOptions = {}, fetch?: Fetch) =>
  openSource(source, store, fetch, options, () => {});

/** A network that is down. */
const refuse: Fetch = () => Promise.reject(new TypeError('fetch failed'));
/** A server that is there and says nothing. */
const keepSilent: Fetch = (_input, init) =>
  new Promise((_resolve, reject) => {
    init?.signal?.addEventListener('abort', () => reject(init.signal?.reason), { once: true });
  });

/** Runs on a clock of its own, which moves when only a timer can go on: how fast the machine is changes nothing. */
async function time<T>(work: () => Promise<T>): Promise<{ readonly result: T; readonly tookMs: number }> {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  try {
    const startMs = performance.now();
    let hasEnded = false;
    const working = work().finally(() => {
      hasEnded = true;
    });
    while (!hasEnded) {
      await new Promise((resolve) => setImmediate(resolve));
      if (!hasEnded) await vi.advanceTimersToNextTimerAsync();
    }
    return { result: await working, tookMs: performance.now() - startMs };
  } finally {
    vi.useRealTimers();
  }
}

async function install(source: ModelSource): Promise<string> {
  const model = await open(source);
  await model.finish();
  await model.close();
  return model.plan.modelId;
}

it.each([0, 1])('an installed model opens when its source is down, and says so (source %i)', async (which) => {
  const source = sources[which] as ModelSource;
  const modelId = await install(source);
  const warnings: string[] = [];
  const options = { onWarning: (message: string) => void warnings.push(message) };
  const { result: model, tookMs } = await time(() => open(source, options, refuse));
  expect(tookMs).toBeLessThan(3000);
  expect(warnings).toEqual([expect.stringMatching(/is installed and is used without asking/)]);
  expect(model.isNew).toBe(false);
  expect(model.records).toMatchObject({ isLocal: true, isCommitted: true });
  expect(model.records.listMissing()).toEqual([]);
  const manifest = await store.readManifest(modelId);
  expect(model.records.manifest).toEqual(manifest);
  expect(await model.finish()).toEqual(manifest);
  const keys = Object.keys(manifest?.digests ?? {});
  expect(model.plan.records.map(({ key }) => key).sort()).toEqual([...keys].sort());
  for (const key of keys) expect(await model.records.read(key), key).toEqual(await store.readRecord(modelId, key));
  await model.close();
});

it.each([undefined, false, true])('a disk that takes nothing stops no start (startEarly: %s)', async (startEarly) => {
  const refuse = async () => {
    throw new EngineError('STORAGE_FULL', 'the disk is full');
  };
  store = { ...createMemoryStore(), writeDraft: refuse, writeRecords: refuse, writeState: refuse };
  const warnings: string[] = [];
  const model = await open(sources[0] as ModelSource, { onWarning: (message) => warnings.push(message) });
  expect(await fetchForStart(model, startEarly, (message) => warnings.push(message), undefined)).toBe(false);
  expect(warnings).toEqual([
    expect.stringMatching(/headers .* are not kept.*the disk is full/),
    expect.stringMatching(/needs \d+ bytes of storage.*the disk is full; the model runs all the same/),
  ]);
  const { key, sizeBytes } = model.plan.records.at(-1) as (typeof model.plan.records)[0];
  expect(await model.records.read(key)).toHaveLength(sizeBytes);
  await model.close();
});

it('a lost record of such a model is an error that names the loss and the network', async () => {
  const [source] = sources as [ModelSource];
  const modelId = await install(source);
  await store.removeRecords(modelId, ['page/0/1']);
  await hub.close();
  const model = await open(source);
  await expect(model.records.read('page/0/1')).rejects.toMatchObject({
    code: 'STORAGE',
    message: expect.stringMatching(/"page\/0\/1".*is not in the store.*fetching it again failed.*network error/),
  });
  await model.close();
});

it('what is not installed, or not whole, or asked for in other words, stays a network error', async () => {
  const [source, other] = sources as [ModelSource, ModelSource];
  const begun = await open(source);
  await begun.close();
  const { fault } = hub;
  hub.fault = (_request, response) => {
    response.destroy();
    return true;
  };
  await expect(open(source)).rejects.toMatchObject({ code: 'NETWORK' });
  hub.fault = fault;
  const modelId = await install(source);
  await hub.close();
  await (await open(source)).close();
  await expect(open(other)).rejects.toMatchObject({ code: 'NETWORK' });
  await removeModel(store, modelId);
  await expect(open(source)).rejects.toMatchObject({ code: 'NETWORK' });
});

it('a server that is there and says nothing is given up within seconds where the model is installed', async () => {
  const [source] = sources as [ModelSource];
  await install(source);
  const { result: model, tookMs } = await time(() => open(source, {}, keepSilent));
  expect(tookMs).toBeLessThan(6000);
  expect(model.isNew).toBe(false);
  await model.close();
});
