/** What a JSON schema costs while decoding: the same prompts without one, with one, and without one again, in turn. */
import type { Grammar } from '../../src/text/grammar.ts';
import { type Measurement, measureRounds } from './measurement.ts';
import type { BenchPrompt, GenerationSample } from './protocol.ts';
import type { Metrics, ResultRow } from './results.ts';

export type StructuredRow = 'no schema' | 'schema' | 'no schema behind it';
const kinds: readonly StructuredRow[] = ['no schema', 'schema', 'no schema behind it'];

export function getStructuredRow(percent: number, kind: StructuredRow): string {
  return `${percent}% ${kind}`;
}

/** More than any run generates, so that no answer ends early; names, texts, numbers and choices as forms have them. */
const grammar: Grammar = {
  kind: 'json-schema',
  schema: {
    type: 'array',
    minItems: 100,
    maxItems: 100,
    items: {
      type: 'object',
      properties: {
        name: { type: 'string', minLength: 3, maxLength: 40 },
        kind: { enum: ['hotel', 'restaurant', 'music', 'travel'] },
        seats: { type: 'integer', minimum: 1, maximum: 40 },
        notes: { type: 'array', items: { type: 'string', maxLength: 60 }, maxItems: 3 },
      },
      required: ['name', 'kind', 'seats', 'notes'],
      additionalProperties: false,
    },
  },
};

export async function measureStructured(measurement: Measurement): Promise<ResultRow[]> {
  const { bench, store, tokens } = measurement;
  const ask = (text: string, seed: number): BenchPrompt[] =>
    kinds.map((kind) => (kind === 'schema' ? { text, seed, grammar } : { text, seed }));
  // The first three pay for what happens once after a load: the grammar engine is fetched, the grammar compiled.
  const [first, ...others] = measurement.prompts.map(({ text, seed }) => ask(text, seed)) as [
    BenchPrompt[],
    ...BenchPrompt[][],
  ];
  const prompts = [...first, ...first, ...others.flat()];
  const budgets = [100, 50].map((percent) => ({ row: `${percent}%`, percent }));
  const samples = new Map<number, GenerationSample>();
  return measureRounds(
    'structured',
    measurement,
    budgets,
    async ({ percent }) => {
      const sample = await bench.generate({ store, expertBudget: { percent }, predictors: 'cold', prompts, tokens });
      samples.set(percent, sample);
      return {};
    },
    () => {
      const round = [...samples].flatMap(([percent, sample]) =>
        kinds.map((kind, i): [string, Metrics] => [
          getStructuredRow(percent, kind),
          { ...getMetrics(sample, i), ...getRatio(sample, i) },
        ]),
      );
      return new Map(round);
    },
  );
}

/** Of speeds in one round: a machine that is busy with something else slows what is compared alike. */
function getRatio(sample: GenerationSample, kind: number): Metrics {
  const getSpeed = (of: number): number => getMetrics(sample, of).tokensPerSecond?.value ?? Number.NaN;
  return { ratioToNoSchema: { value: getSpeed(kind) / getSpeed(0), unit: 'ratio' } };
}

function getMetrics({ answers }: GenerationSample, kind: number): Metrics {
  const own = answers.slice(kinds.length).filter((_, i) => i % kinds.length === kind);
  const decoded = own.reduce((sum, { stats }) => sum + stats.generatedTokens - 1, 0);
  const decodeMs = own.reduce((sum, { stats }) => sum + stats.decodeMs, 0);
  const firstMs = own.reduce((sum, { firstTokenMs }) => sum + firstTokenMs, 0) / own.length;
  return {
    tokensPerSecond: { value: (decoded / decodeMs) * 1000, unit: 'tokens/s' },
    msPerToken: { value: decodeMs / decoded, unit: 'ms' },
    firstTokenMs: { value: firstMs, unit: 'ms' },
  };
}
