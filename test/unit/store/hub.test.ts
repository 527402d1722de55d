/** The fixture hub itself: what other tests rely on when they read its log. */
import { afterEach, expect, it } from 'vitest';
import { readGgufFile } from '../../../src/checkpoint/gguf';
import { openHttpSource } from '../../../src/store/http-source';
import { qwen3Moe } from '../../../tools/perf/random-shapes';
import { createHubFile, type Hub, type HubOptions, hubCommit, startHub } from '../../hub/hub';
import { createHugeModel } from '../../hub/huge-model';
import { getBytesAt } from './fault-server';

const hubs: Hub[] = [];
afterEach(() => Promise.all(hubs.splice(0).map((hub) => hub.close())));

async function start(options: HubOptions): Promise<Hub> {
  const hub = await startHub(options);
  hubs.push(hub);
  return hub;
}

const small = createHubFile(getBytesAt(0, 300_000));

it('redirects resolve to another origin, answers ranges there and logs them', async () => {
  const hub = await start({ repositories: { 'someone/small': { 'model.gguf': small } } });
  const source = await openHttpSource(`${hub.url}someone/small/resolve/main/model.gguf`);
  expect(source.sizeBytes).toBe(300_000);
  expect(Buffer.compare(await source.read(123_456, 70_000), getBytesAt(123_456, 70_000))).toBe(0);
  expect(
    hub.requests.map(({ method, path, range, status, sentBytes }) => ({ method, path, range, status, sentBytes })),
  ).toEqual([
    { method: 'GET', path: '/someone/small/model.gguf', range: { start: 0, end: 1 }, status: 206, sentBytes: 2 },
    {
      method: 'GET',
      path: '/someone/small/model.gguf',
      range: { start: 123_456, end: 193_455 },
      status: 206,
      sentBytes: 70_000,
    },
  ]);
  expect(hub.hubRequests).toHaveLength(2);
});

it('lists a repository, and keeps those without the token out', async () => {
  const hub = await start({ repositories: { 'someone/small': { 'model.gguf': small } }, token: 'hf_secret' });
  const ask = (path: string, token?: string) =>
    fetch(`${hub.url}${path}`, token ? { headers: { Authorization: `Bearer ${token}` } } : {});
  expect((await ask('api/models/someone/small/tree/main')).status).toBe(401);
  const tree = await ask('api/models/someone/small/tree/main', 'hf_secret');
  expect(await tree.json()).toEqual([{ type: 'file', path: 'model.gguf', size: 300_000, oid: expect.any(String) }]);
  const info = await ask('api/models/someone/small/revision/HEAD', 'hf_secret');
  expect(await info.json()).toMatchObject({ id: 'someone/small', sha: hubCommit });
  expect((await ask('api/models/someone/other/revision/HEAD', 'hf_secret')).status).toBe(404);
});

it('sends no more than its rate, all answers together', async () => {
  const hub = await start({ repositories: { 'someone/small': { 'model.gguf': small } }, bytesPerSecond: 500_000 });
  const source = await openHttpSource(`${hub.url}someone/small/resolve/main/model.gguf`);
  const startMs = performance.now();
  await Promise.all([0, 1, 2].map((i) => source.read(i * 100_000, 100_000)));
  expect(performance.now() - startMs).toBeGreaterThan(550);
});

it('serves 30 GB that exist nowhere, with the header of Qwen3-30B-A3B', async () => {
  const huge = createHugeModel();
  const hub = await start({ repositories: { 'qwen/huge': { 'huge.gguf': huge } } });
  const source = await openHttpSource(`${hub.url}qwen/huge/resolve/main/huge.gguf`);
  const gguf = await readGgufFile(source);
  expect(source.sizeBytes).toBeGreaterThan(30e9);
  expect(gguf.headerBytes).toBe(huge.headerBytes);
  expect(gguf.tensors.get('blk.47.ffn_down_exps.weight')).toMatchObject({
    shape: [qwen3Moe.experts, qwen3Moe.hiddenSize, qwen3Moe.expertWidth],
    ...huge.tensors.get('blk.47.ffn_down_exps.weight'),
  });
  for (const at of [2 ** 32 - 7, 2 ** 33 + 123_457, huge.sizeBytes - 5000]) {
    expect(Buffer.compare(await source.read(at, 5000), huge.read(at, 5000))).toBe(0);
  }
});
