/** Tables of plain speed with the engine's defaults: decode, prefill, and the first token after a load. */
import { type Measurement, measureRounds } from './measurement.ts';
import type { GenerationSample } from './protocol.ts';
import { getPromptTokens, type RandomShape } from './random-shapes.ts';
import type { Metrics, ResultRow } from './results.ts';

interface SpeedRow {
  readonly row: string;
  readonly percent: number;
  readonly random?: RandomShape;
  /** Prompt tokens that the row is about; absent: the load. */
  readonly length?: number;
}

const budgetRows: readonly SpeedRow[] = [100, 50].map((percent) => ({ row: `${percent}%`, percent }));

/** Models of random weights, in RAM: no store keeps what means nothing. */
async function listRandomRows({ bench, shapes }: Measurement): Promise<SpeedRow[]> {
  for (const random of shapes) await bench.install('memory', random);
  return shapes.flatMap((random) =>
    budgetRows.map(({ row, percent }) => ({ row: `${random.name} ${row}`, percent, random })),
  );
}

/** Decoded tokens of a model of random weights: each costs what the others do. */
const randomTokens = 9;

export async function measureDecode(measurement: Measurement): Promise<ResultRow[]> {
  const { bench, store, tokens, prompts, model } = measurement;
  const rows = [...budgetRows, ...(await listRandomRows(measurement))];
  return measureRounds('decode', measurement, rows, async ({ percent, random }) => {
    const job = { expertBudget: { percent }, predictors: 'cold' } as const;
    const { answers } = await bench.generate(
      random
        ? {
            ...job,
            store: 'memory',
            random,
            prompts: [{ promptTokens: Math.min(shortPromptTokens, getPromptTokens(model)) }],
            tokens: Math.min(randomTokens, tokens),
          }
        : { ...job, store, prompts, tokens },
    );
    const decoded = answers.reduce((sum, { stats }) => sum + stats.generatedTokens - 1, 0);
    const decodeMs = answers.reduce((sum, { stats }) => sum + stats.decodeMs, 0);
    return {
      tokensPerSecond: { value: (decoded / decodeMs) * 1000, unit: 'tokens/s' },
      msPerToken: { value: decodeMs / decoded, unit: 'ms' },
      ...(random && getCut(random)),
    };
  });
}

const promptLengths = [12, 128, 512] as const;
const shortPromptTokens = promptLengths[0];
/** The shortest prompt that runs in tiles, whose kernels are compiled for it. */
const firstTiledLength = 16;
/**
 * The prompt that decoded tokens follow which a prefill of `length` is compared with: their positions lie around the middle of its
 * own, and attention's cost is linear in the position.
 */
export function getComparedLength(length: number, tokens: number): number {
  return Math.max(2, Math.round((length - tokens) / 2));
}

export async function measurePrefill(measurement: Measurement): Promise<ResultRow[]> {
  const { bench, store } = measurement;
  // The first two answers pay for what only happens once after a load; the others come after them.
  const tokens = Math.min(32, measurement.tokens);
  const lengths = promptLengths.flatMap((length) => [getComparedLength(length, tokens), length]);
  const prompts = [promptLengths[0], firstTiledLength, ...lengths].map((promptTokens) => ({ promptTokens }));
  const rows = budgetRows.flatMap(({ row, percent }): SpeedRow[] => [
    { row, percent },
    ...promptLengths.map((length) => ({ row: `${row} ${length} tokens`, percent, length })),
  ]);
  const samples = new Map<number, GenerationSample>();
  const randomRows = await listRandomRows(measurement);
  return measureRounds(
    'prefill',
    measurement,
    [...budgetRows, ...randomRows],
    async ({ percent, random }) => {
      if (random) return measureRandomPrefill(measurement, percent, random);
      // Steps: a submission each, as a prompt's chunks are.
      const job = { store, expertBudget: { percent }, predictors: 'cold', tokensPerSubmit: 1 } as const;
      const sample = await bench.generate({ ...job, prompts, tokens });
      samples.set(percent, sample);
      return {
        loadMs: { value: sample.loadMs, unit: 'ms' },
        firstTokenMs: { value: sample.answers[0]?.firstTokenMs ?? Number.NaN, unit: 'ms' },
        firstTiledTokenMs: { value: sample.answers[1]?.firstTokenMs ?? Number.NaN, unit: 'ms' },
      };
    },
    (round) =>
      new Map(
        [...rows, ...randomRows].flatMap((row): [string, Metrics][] => {
          if (row.length === undefined) return [[row.row, round.get(row.row) ?? {}]];
          const sample = samples.get(row.percent);
          return sample ? [[row.row, getPrefillMetrics(sample, row.length, tokens)]] : [];
        }),
      ),
  );
}

async function measureRandomPrefill(
  { bench, model }: Measurement,
  percent: number,
  random: RandomShape,
): Promise<Metrics> {
  const promptTokens = getPromptTokens(model);
  const { answers } = await bench.generate({
    store: 'memory',
    random,
    expertBudget: { percent },
    predictors: 'cold',
    // The first one waits for the kernels of tiles.
    prompts: [{ promptTokens: firstTiledLength }, { promptTokens }],
    tokens: 2,
  });
  const prefillMs = answers[1]?.stats.prefillMs ?? Number.NaN;
  return {
    prefillMs: { value: prefillMs, unit: 'ms' },
    tokensPerSecond: { value: (promptTokens / prefillMs) * 1000, unit: 'tokens/s' },
    promptTokens: { value: promptTokens, unit: 'tokens' },
    ...getCut(random),
  };
}

/** The first two answers are left out. `length`: prompt tokens; `tokens`: those generated behind each prompt. */
export function getPrefillMetrics({ answers }: GenerationSample, length: number, tokens: number): Metrics {
  const getStats = (promptTokens: number) =>
    answers.slice(2).find(({ stats }) => stats.promptTokens === promptTokens)?.stats;
  const prefillMs = getStats(length)?.prefillMs ?? Number.NaN;
  const decode = getStats(getComparedLength(length, tokens));
  const stepMs = decode ? decode.decodeMs / (decode.generatedTokens - 1) : Number.NaN;
  return {
    prefillMs: { value: prefillMs, unit: 'ms' },
    tokensPerSecond: { value: (length / prefillMs) * 1000, unit: 'tokens/s' },
    shareOfDecodeSteps: { value: prefillMs / (length * stepMs), unit: 'ratio' },
  };
}

/** What is left of a shape of random weights: the layers and the vocabulary; all widths are as published. */
export function getCut({ layers, vocabSize }: RandomShape): Metrics {
  return { layers: { value: layers, unit: 'layers' }, vocabSize: { value: vocabSize, unit: 'tokens' } };
}
