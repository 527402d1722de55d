/** Tables of plain speed with the engine's defaults: decode, prefill, and the first token after a load. */
import { type Measurement, measureRounds } from './measurement.ts';
import { ladderPrompts } from './prompts.ts';
import type { GenerationSample } from './protocol.ts';
import type { Metrics, ResultRow } from './results.ts';

const budgetRows = [100, 50].map((percent) => ({ row: `${percent}%`, percent }));

export function measureDecode(measurement: Measurement): Promise<ResultRow[]> {
  const { bench, store, tokens } = measurement;
  const prompts = ladderPrompts.map(({ text }, seed) => ({ text, seed }));
  return measureRounds('decode', measurement, budgetRows, async ({ percent }) => {
    const { answers } = await bench.generate({ store, expertBudget: { percent }, predictors: 'cold', prompts, tokens });
    const decoded = answers.reduce((sum, { stats }) => sum + stats.generatedTokens - 1, 0);
    const decodeMs = answers.reduce((sum, { stats }) => sum + stats.decodeMs, 0);
    return {
      tokensPerSecond: { value: (decoded / decodeMs) * 1000, unit: 'tokens/s' },
      msPerToken: { value: decodeMs / decoded, unit: 'ms' },
    };
  });
}

const promptLengths = [12, 128, 512] as const;
/** The shortest prompt that runs in tiles, whose kernels are compiled for it. */
const firstTiledLength = 16;
/** Decoded tokens that a prefill is compared with follow this prompt. */
const comparedLength = 128;

export async function measurePrefill(measurement: Measurement): Promise<ResultRow[]> {
  const { bench, store } = measurement;
  // The first two answers pay for what only happens once after a load; the others come after them.
  const prompts = [promptLengths[0], firstTiledLength, ...promptLengths].map((promptTokens) => ({ promptTokens }));
  const tokens = Math.min(32, measurement.tokens);
  const rows = budgetRows.flatMap(({ row, percent }) => [
    { row, percent },
    ...promptLengths.map((length) => ({ row: `${row} ${length} tokens`, percent, length })),
  ]);
  const samples = new Map<number, GenerationSample>();
  return measureRounds(
    'prefill',
    measurement,
    budgetRows,
    async ({ percent }) => {
      const sample = await bench.generate({ store, expertBudget: { percent }, predictors: 'cold', prompts, tokens });
      samples.set(percent, sample);
      return {
        loadMs: { value: sample.loadMs, unit: 'ms' },
        firstTokenMs: { value: sample.answers[0]?.firstTokenMs ?? Number.NaN, unit: 'ms' },
        firstTiledTokenMs: { value: sample.answers[1]?.firstTokenMs ?? Number.NaN, unit: 'ms' },
      };
    },
    (round) =>
      new Map(
        rows.flatMap((row): [string, Metrics][] => {
          if (!('length' in row)) return [[row.row, round.get(row.row) ?? {}]];
          const sample = samples.get(row.percent);
          return sample ? [[row.row, getPrefillMetrics(sample, row.length)]] : [];
        }),
      ),
  );
}

/** The first two answers are left out. `length`: prompt tokens. */
export function getPrefillMetrics({ answers }: GenerationSample, length: number): Metrics {
  const getStats = (promptTokens: number) =>
    answers.slice(2).find(({ stats }) => stats.promptTokens === promptTokens)?.stats;
  const prefillMs = getStats(length)?.prefillMs ?? Number.NaN;
  const decode = getStats(comparedLength);
  const stepMs = decode ? decode.decodeMs / (decode.generatedTokens - 1) : Number.NaN;
  return {
    prefillMs: { value: prefillMs, unit: 'ms' },
    tokensPerSecond: { value: (length / prefillMs) * 1000, unit: 'tokens/s' },
    shareOfDecodeSteps: { value: prefillMs / (length * stepMs), unit: 'ratio' },
  };
}
