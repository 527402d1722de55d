/**
 * The ratios that a change must not lose, as the project's issues state them, read off the medians. Pure.
 */
import { getStreamRow } from './page-tables.ts';
import type { PeerName } from './peers/peer-protocol.ts';
import type { StreamJob } from './protocol.ts';
import { findMedian, type ResultRow, type TableName } from './results.ts';
import { getStructuredRow, type StructuredRow } from './structured-table.ts';

export interface Check {
  readonly table: TableName;
  readonly claim: string;
  readonly value: number;
  readonly atMost?: number;
  readonly atLeast?: number;
}

/** A value that could not be measured passes nothing. */
export function passes({ value, atMost = Infinity, atLeast = -Infinity }: Check): boolean {
  return value <= atMost && value >= atLeast;
}

const ortOnGpu: PeerName = 'onnxruntime-web webgpu';

type Limit = Pick<Check, 'atMost' | 'atLeast'>;

export function getChecks(rows: readonly ResultRow[], tables: readonly TableName[]): Check[] {
  return tables.flatMap((table) => {
    const median = (row: string, metric: string): number => findMedian(rows, table, row, metric);
    const ratio = (metric: string, row: string, base: string): number => median(row, metric) / median(base, metric);
    const check = (claim: string, value: number, limit: Limit): Check => ({ table, claim, value, ...limit });
    const everyLayer = '50% (b) every layer';
    const faultResume = '50% (c) fault-resume';
    const forecast = '50% (e) forecast';
    const self = '50% (g) self-draft';
    const auto = '50% (i) auto';
    switch (table) {
      case 'kernels':
        // A share of a CPU's copy speed says nothing: its kernels are bound by arithmetic.
        return median('device', 'isSoftware') === 1 ? [] : [getExpertBandwidth(rows)];
      case 'ladder':
        return [
          getExactness(rows, table),
          check('50%: round trips of (e) / (b)', ratio('roundTripsPerToken', forecast, everyLayer), { atMost: 0.5 }),
          check('50%: round trips of (e) / (c)', ratio('roundTripsPerToken', forecast, faultResume), { atMost: 0.5 }),
          check('50%: uploads of (e) / (c)', ratio('uploadsPerToken', forecast, faultResume), { atMost: 2 }),
          check('50%: speed of (e) / resident', median(forecast, 'ratioToResident'), { atLeast: 0.75 }),
          check('50%: gap captured by (e)', median(forecast, 'gapCaptured'), { atLeast: 0.6 }),
          check('50%: tokens a pass of (g)', median(self, 'tokensPerPass'), { atLeast: 3 }),
          check('50%: round trips of (g)', median(self, 'roundTripsPerToken'), { atMost: 1 }),
          check('50%: uploads of (g) / (d)', ratio('uploadsPerToken', self, '50% (d) run-ahead'), { atMost: 1.15 }),
          check('25%: round trips of (g)', median('25% (g) self-draft', 'roundTripsPerToken'), { atMost: 1.6 }),
          check('25%: uploads of (g) / (d)', ratio('uploadsPerToken', '25% (g) self-draft', '25% (d) run-ahead'), {
            atMost: 1.5,
          }),
          check(
            '50%: speed of (i) / the better of (e) and (g)',
            Math.min(ratio('tokensPerSecond', auto, forecast), ratio('tokensPerSecond', auto, self)),
            { atLeast: 0.97 },
          ),
          check('100%: ms per token of (b)', median('100% (b) every layer', 'msPerToken'), {
            atMost:
              median('100% (a) resident', 'msPerToken') +
              median('100% (b) every layer', 'roundTripsPerToken') * median('round trip', 'roundTripMs'),
          }),
        ];
      case 'ladder-delayed':
        return [
          getExactness(rows, table),
          check('50%: speed of (e) / (b)', ratio('tokensPerSecond', forecast, everyLayer), { atLeast: 1.6 }),
          check('50%: speed of (i) / (e)', ratio('tokensPerSecond', auto, forecast), { atLeast: 1.3 }),
          check('50%: speed of (i) / (b)', ratio('tokensPerSecond', auto, everyLayer), { atLeast: 2 }),
        ];
      case 'predictors':
        return [getExactness(rows, table)];
      case 'shadow':
        return [
          check('50%: misses behind a first fault that the shadow names', median('50%', 'recall'), { atLeast: 0.8 }),
          check('50%: false pages per true one', median('50%', 'falsePerTrue'), { atMost: 0.2 }),
        ];
      case 'storage': {
        const getRate = (from: StreamJob['from'], parallel: number): number =>
          median(getStreamRow({ from, parallel }), 'megabytesPerSecond');
        const getBest = (from: StreamJob['from']): number => Math.max(getRate(from, 1), getRate(from, 8));
        return [
          check('4 MiB: OPFS to GPU / raw warm reads', getBest('opfs') / getRate('raw', 1), { atLeast: 0.2 }),
          check('4 MiB: OPFS to GPU / the best of IndexedDB', getBest('opfs') / getBest('indexeddb'), { atLeast: 1.2 }),
        ];
      }
      case 'prefill':
        return [
          check('100%: 512 prompt tokens / 512 decode steps', median('100% 512 tokens', 'shareOfDecodeSteps'), {
            atMost: 0.25,
          }),
        ];
      case 'structured':
        return [100, 50].flatMap((percent) => {
          const getShare = (which: StructuredRow): number =>
            median(getStructuredRow(percent, which), 'ratioToNoSchema');
          return [
            check(`${percent}%: speed with a schema / without`, getShare('schema'), { atLeast: 0.7 }),
            check(`${percent}%: speed without a schema behind one / before`, getShare('no schema behind it'), {
              atLeast: 0.9,
            }),
          ];
        });
      case 'peers':
        return [
          check('decoding: webmoe, all experts resident / onnxruntime-web on WebGPU', median(ortOnGpu, 'decodeRatio'), {
            atLeast: 30,
          }),
          check(
            '128 prompt tokens: webmoe, all experts resident / onnxruntime-web on WebGPU',
            median(ortOnGpu, 'prefillRatio'),
            {
              atLeast: 10,
            },
          ),
        ];
      default:
        return [];
    }
  });
}

/** The slower of the two expert kernels that decode at OLMoE's shapes. */
function getExpertBandwidth(rows: readonly ResultRow[]): Check {
  const shares = rows.filter(
    ({ table, row, metric }) =>
      table === 'kernels' && metric === 'ofCopy' && row.startsWith('OLMoE-1B-7B, decode') && row.includes(': expert_'),
  );
  return {
    table: 'kernels',
    claim: "OLMoE-1B-7B, decode: expert kernels' bytes/s / copy's",
    value: shares.length > 0 ? Math.min(...shares.map(({ median }) => median)) : Number.NaN,
    atLeast: 0.6,
  };
}

/** Every run of every row, not the median: one wrong token is one too many. */
function getExactness(rows: readonly ResultRow[], table: TableName): Check {
  const same = rows.filter((row) => row.table === table && row.metric === 'sameAnswers').map(({ min }) => min);
  return {
    table,
    claim: 'rungs with the same tokens and log-probabilities, as a share',
    value: same.filter((value) => value === 1).length / same.length,
    atLeast: 1,
  };
}
