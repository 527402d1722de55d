/** Tables of single pages: a fault served from every tier, and the stores beside each other and beside a file. */
import type { StoreKind } from '../../src/store/model-store.ts';
import { type Measurement, measureRounds } from './measurement.ts';
import type { FaultJob, ReadSample, ShadowCount, StreamJob } from './protocol.ts';
import { getPercentile, type Metrics, type ResultRow } from './results.ts';

const stores: readonly StoreKind[] = ['indexeddb', 'opfs', 'memory'];
const faultTrials = 60;

export async function measureFaults(measurement: Measurement): Promise<ResultRow[]> {
  const { bench, shapes } = measurement;
  for (const store of stores) await bench.install(store);
  // Pages of megabytes beside the embedded model's.
  const largePages = shapes.slice(0, 1);
  for (const shape of largePages) await bench.install('opfs', shape);
  const rows: readonly (Omit<FaultJob, 'trials'> & { readonly row: string })[] = [
    { row: 'ram', store: 'indexeddb', from: 'ram', staging: 'off' },
    ...stores.map((store) => ({ row: store, store, from: 'store', staging: 'off' }) as const),
    { row: 'opfs, staged', store: 'opfs', from: 'store', staging: 'on' },
    ...largePages.flatMap((random) => [
      { row: `opfs, ${random.name}`, store: 'opfs', from: 'store', staging: 'off', random } as const,
      { row: `opfs, ${random.name}, staged`, store: 'opfs', from: 'store', staging: 'on', random } as const,
    ]),
    // This machine's own server: what a network takes for the way, and for a page's bytes, is to be added.
    { row: 'network (loopback)', store: 'memory', from: 'network', staging: 'off' },
  ];
  return measureRounds('faults', measurement, rows, async ({ row: _, ...job }) => {
    const timesMs = await bench.serveFaults({ ...job, trials: faultTrials });
    return {
      p50Ms: { value: getPercentile(timesMs, 50), unit: 'ms' },
      p95Ms: { value: getPercentile(timesMs, 95), unit: 'ms' },
    };
  });
}

export async function measureStorage(measurement: Measurement): Promise<ResultRow[]> {
  for (const store of stores) await measurement.bench.install(store);
  const { bench } = measurement;
  const ways = stores.flatMap((store) => [1, 8].map((parallel) => ({ store, parallel })));
  const streams: readonly StreamJob[] = [
    { from: 'raw', parallel: 1, toGpu: false },
    { from: 'mapped', parallel: 1, toGpu: true },
    ...ways.map(({ store, parallel }) => ({ from: store, parallel, toGpu: true })),
  ];
  const rows: readonly { readonly row: string; read(): Promise<ReadSample> }[] = [
    ...ways.map((way) => ({
      row: `${way.store} ${way.parallel} at a time`,
      read: () => bench.readPages(way),
    })),
    ...streams.map((job) => ({ row: getStreamRow(job), read: () => bench.streamRecords(job) })),
  ];
  return measureRounds('storage', measurement, rows, async ({ read }) => {
    const { pages, bytes, elapsedMs } = await read();
    return {
      readsPerSecond: { value: (pages / elapsedMs) * 1000, unit: 'reads/s' },
      megabytesPerSecond: { value: bytes / 1e6 / (elapsedMs / 1000), unit: 'MB/s' },
    };
  });
}

export function getStreamRow({ from, parallel }: Pick<StreamJob, 'from' | 'parallel'>): string {
  if (from === 'mapped') return 'raw opfs to GPU, 4 MiB, mapped staging';
  return from === 'raw' ? 'raw opfs, 4 MiB' : `${from} to GPU, 4 MiB, ${parallel} at a time`;
}

/** The shadow's recall does not depend on time: it is counted once, however many runs are asked for. */
export function measureShadow(measurement: Measurement): Promise<ResultRow[]> {
  const { bench, tokens, prompts } = measurement;
  const counts = new Map<number, readonly ShadowCount[]>();
  const rows = [50, 25].map((percent) => ({ row: `${percent}%`, percent }));
  return measureRounds(
    'shadow',
    { ...measurement, runs: 1 },
    rows,
    async ({ percent }) => {
      const byDistance = await bench.watchShadow({ expertBudget: { percent }, prompts, tokens });
      counts.set(percent, byDistance);
      return getShadowMetrics(byDistance);
    },
    (round) =>
      new Map([
        ...round,
        ...rows.flatMap(({ row, percent }) =>
          (counts.get(percent) ?? []).map((count, index): [string, Metrics] => [
            `${row} distance ${index + 1}`,
            getShadowMetrics([count]),
          ]),
        ),
      ]),
  );
}

export function getShadowMetrics(counts: readonly ShadowCount[]): Metrics {
  const sum = (get: (count: ShadowCount) => number): number => counts.reduce((total, count) => total + get(count), 0);
  const misses = sum((count) => count.misses);
  const named = sum((count) => count.named);
  return {
    recall: { value: named / misses, unit: 'share' },
    falsePerTrue: { value: sum((count) => count.falsePages) / named, unit: 'ratio' },
    misses: { value: misses, unit: 'pages' },
  };
}
