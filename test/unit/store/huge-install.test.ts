/** A model that no machine here has room for: planned, installed in part, and read beyond 4 GiB. */
import { afterEach, expect, it } from 'vitest';
import { getPageKey } from '../../../src/checkpoint/manifest';
import { createHttpFiles } from '../../../src/store/http-files';
import { listModels } from '../../../src/store/list-models';
import { createMemoryStore } from '../../../src/store/memory-store';
import { openModel } from '../../../src/store/open-model';
import { qwen3Moe } from '../../../tools/perf/random-shapes';
import { type Hub, startHub } from '../../hub/hub';
import { createHugeModel } from '../../hub/huge-model';

let hub: Hub | undefined;
afterEach(async () => {
  await hub?.close();
});

it('a file of 30 GB is planned, installed in part, and read beyond 4 GiB at the right offsets', async () => {
  const huge = createHugeModel();
  hub = await startHub({ repositories: { 'qwen/huge': { 'huge.gguf': huge } } });
  const files = createHttpFiles(`${hub.url}qwen/huge/resolve/main/huge.gguf`);
  const store = createMemoryStore();
  const model = await openModel(files, store);
  const { layers, experts } = qwen3Moe;
  expect(model.plan.sourceBytes).toBe(huge.sizeBytes);
  expect(huge.sizeBytes).toBeGreaterThan(30e9);
  expect(model.plan.config).toMatchObject({ layers, moe: { experts, expertsPerToken: qwen3Moe.expertsPerToken } });
  const records = new Map(model.plan.records.map((record) => [record.key, record]));
  expect([...records.keys()].filter((key) => key.startsWith('page/'))).toHaveLength(layers * experts);

  /** Where an expert's matrices are, by the tensor list alone. */
  const getRanges = (layer: number, expert: number) =>
    ['gate', 'up', 'down'].map((part) => {
      const tensor = huge.tensors.get(`blk.${layer}.ffn_${part}_exps.weight`);
      const lengthBytes = (tensor?.sizeBytes ?? 0) / experts;
      return { offsetBytes: (tensor?.offsetBytes ?? 0) + expert * lengthBytes, lengthBytes };
    });
  const pages = [
    [0, 0],
    [7, 77],
    [layers - 1, experts - 1],
  ] as const;
  const keys = pages.map(([layer, expert]) => getPageKey(layer, expert));
  hub.requests.length = 0;
  await model.records.fill(keys);
  const asked = hub.requests.map(({ range }) => range);
  for (const [i, [layer, expert]] of pages.entries()) {
    const ranges = getRanges(layer, expert);
    const record = records.get(keys[i] as string);
    expect(record?.sourceRanges).toMatchObject(ranges);
    const packed = await record?.pack(
      ranges.map(({ offsetBytes, lengthBytes }) => huge.read(offsetBytes, lengthBytes)),
    );
    expect(Buffer.compare(await model.records.read(keys[i] as string), packed ?? new Uint8Array()), keys[i]).toBe(0);
  }
  expect(hub.requests).toHaveLength(asked.length);
  expect(asked.filter((range) => range !== null && range.start > 2 ** 32).length).toBeGreaterThan(2);
  // Nothing but these pages was asked for, each byte once.
  const neededBytes = pages
    .flatMap(([layer, expert]) => getRanges(layer, expert))
    .reduce((sum, r) => sum + r.lengthBytes, 0);
  expect(asked.reduce((sum, range) => sum + (range ? range.end - range.start + 1 : 0), 0)).toBe(neededBytes);
  await model.close();

  const [listed] = await listModels(store);
  expect(listed).toMatchObject({ sourceBytes: huge.sizeBytes, storedShare: pages.length / records.size });
  const again = await openModel(files, store);
  hub.requests.length = 0;
  for (const key of keys) expect(again.records.has(key)).toBe(true);
  await again.records.fill(keys);
  expect(hub.requests).toEqual([]);
  await again.close();
});
