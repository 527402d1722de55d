import { describe, expect, it } from 'vitest';
import { compileSampleToken, type SampleToken } from '../../src/kernels/sample-token';
import { CONTROL, NO_FAULT } from '../../src/model/run-state';
import { getGumbelNoise, hashPcg3d } from '../../src/sampling/gumbel';
import { type SamplingParameters, sampleToken } from '../reference/sample-token';
import {
  type Bench,
  createControl,
  createRandom,
  expectUntouched,
  openBenches,
  type PassState,
  randomFloats,
} from './harness';
import { describeCase, LAYERS, MODES } from './modes';

/** Below these the order of f32 sums and the adapter's exp and log decide: see docs/numerics.md. */
const MARGIN_TOLERANCE = 1e-4;
const FILTER_TOLERANCE = 1e-5;

const LOWEST_F32 = -3.4028234663852886e38;
/** No multiple of any workgroup size. */
const VOCAB = 301;
const ROWS = 48;
const PLAIN: SamplingParameters = { temperature: 1, topK: VOCAB, topP: 1, minP: 0, seed: 1 };

const OPTIONS: readonly Partial<SamplingParameters>[] = [
  {},
  { temperature: 0.3 },
  { temperature: 2.5 },
  { topK: 1 },
  { topK: 5 },
  { topK: 40, temperature: 1.5 },
  { topP: 0.9 },
  { topP: 0.3, temperature: 3 },
  { minP: 0.1, temperature: 2 },
  { minP: 1 },
  { topK: 60, topP: 0.95, minP: 0.05, temperature: 1.2 },
];

const benches = await openBenches();

async function run(
  bench: Bench,
  kernel: SampleToken,
  logits: Float32Array,
  vocab: number,
  parameters: SamplingParameters,
  { position = 0, ...state }: PassState & { position?: number } = {},
): Promise<number[]> {
  const rows = logits.length / vocab;
  const control = createControl(state, rows);
  const b = await bench.place({ logits, control });
  const { temperature, topK, topP, minP, seed } = parameters;
  const minLogP = minP > 0 ? Math.log(minP) : LOWEST_F32;
  const sampling = bench.uniform({ f32: temperature }, topK, { f32: topP }, { f32: minLogP }, seed, position);
  const [bytes] = await bench.run([[kernel.bind({ ...b, sampling }), rows]], [b.control]);
  const words = new Uint32Array(bytes!, 0, control.length);
  expect(words.slice(0, CONTROL.nextToken), 'words before the tokens').toEqual(control.slice(0, CONTROL.nextToken));
  return [...words.slice(CONTROL.nextToken)];
}

/** Rows of logits with the shape of a model's: a bulk, a few far above it, and some equal ones. */
function createLogits(): Float32Array {
  const random = createRandom(11);
  return randomFloats(random, ROWS * VOCAB, 2).map((logit, at) => {
    const roll = random();
    if (roll < 0.04) return logit + 6;
    return roll < 0.1 ? Math.round(logit) + 3 * (at % 2) : logit;
  });
}

describe.each(benches)('sample_token, $name', (bench) => {
  const compile = (vocab = VOCAB) =>
    bench.compileOnce(vocab, () => compileSampleToken(bench.device, bench.variant, vocab));

  it('takes the largest at temperature 0, of equal ones the lowest id', async () => {
    const kernel = await compile();
    const rows: [best: number, ...equals: number[]][] = [
      [0],
      [5, 130, 300],
      [300],
      [1, 2, 3],
      [64, 65, 128],
      [299, 300],
    ];
    const logits = new Float32Array((rows.length + 2) * VOCAB);
    rows.forEach((ids, row) => {
      logits.fill(-7.5, row * VOCAB, (row + 1) * VOCAB);
      for (const id of ids) logits[row * VOCAB + id] = row % 2 === 0 ? -2.25 : 3.5;
    });
    // Then all equal, and all at the lowest f32 but one.
    logits.fill(LOWEST_F32, (rows.length + 1) * VOCAB);
    logits[(rows.length + 1) * VOCAB + 77] = -3e38;
    const tokens = await run(bench, kernel, logits, VOCAB, { ...PLAIN, temperature: 0, topK: 1, topP: 0.1 });
    expect(tokens).toEqual([...rows.map(([best]) => best), 0, 77]);
  });

  it.each(bench.thin(OPTIONS))('samples %o as the reference does', async (options) => {
    const kernel = await compile();
    const logits = createLogits();
    let decided = 0;
    let all = 0;
    for (const [seed, position] of [
      [1, 0],
      [0xfffffff0, 1000],
      [42, 0xffffffff - ROWS],
    ] as const) {
      const parameters = { ...PLAIN, ...options, seed };
      const tokens = await run(bench, kernel, logits, VOCAB, parameters, { position });
      tokens.forEach((token, row) => {
        const own = logits.subarray(row * VOCAB, (row + 1) * VOCAB);
        const reference = sampleToken(parameters, own, position + row);
        all++;
        if (reference.margin < MARGIN_TOLERANCE || reference.filterDistance < FILTER_TOLERANCE) return;
        decided++;
        expect(token, `seed ${seed}, position ${position + row}, kept ${reference.kept.length}`).toBe(reference.token);
      });
    }
    expect(decided / all).toBeGreaterThan(0.95);
  });

  // 150,000 entries through barriers take a software adapter too long.
  it.skipIf(bench.isSlow)(
    'samples from a vocabulary of 150,001 as the reference does, also far down its tail',
    async () => {
      const vocab = 150_001;
      const kernel = await compile(vocab);
      const random = createRandom(5);
      const logits = randomFloats(random, vocab, 3).map((logit) => (random() < 1e-3 ? logit + 8 : logit));
      let decided = 0;
      for (const options of [{}, { topK: 1000 }, { topP: 0.9 }, { topK: 100_000, topP: 0.99, temperature: 2 }]) {
        for (const position of [3, 1 << 20]) {
          const parameters = { ...PLAIN, topK: vocab, ...options };
          const reference = sampleToken(parameters, logits, position);
          if (reference.margin < MARGIN_TOLERANCE) continue;
          decided++;
          expect(await run(bench, kernel, logits, vocab, parameters, { position })).toEqual([reference.token]);
        }
      }
      expect(decided).toBeGreaterThan(6);
    },
  );

  it('refuses a vocabulary whose masses could overflow', async () => {
    await expect(compileSampleToken(bench.device, bench.variant, 2 ** 19)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    });
  });

  it('draws by seed, position and id alone: not by the row, the other rows or the filters', async () => {
    const kernel = await compile();
    const logits = createLogits();
    const all = await run(bench, kernel, logits, VOCAB, PLAIN, { position: 100 });
    for (const row of [0, 1, 17, ROWS - 1]) {
      const own = logits.slice(row * VOCAB, (row + 1) * VOCAB);
      expect(await run(bench, kernel, own, VOCAB, PLAIN, { position: 100 + row })).toEqual([all[row]]);
    }
    expect(await run(bench, kernel, logits, VOCAB, { ...PLAIN, seed: 2 }, { position: 100 })).not.toEqual(all);
    expect(await run(bench, kernel, logits, VOCAB, PLAIN, { position: 101 })).not.toEqual(all);
    // A filter that keeps the token drawn without it cannot change the draw.
    const filtered = { ...PLAIN, topK: 20 };
    const tokens = await run(bench, kernel, logits, VOCAB, filtered, { position: 100 });
    let kept = 0;
    all.forEach((token, row) => {
      if (!sampleToken(filtered, logits.subarray(row * VOCAB, (row + 1) * VOCAB), 100 + row).kept.includes(token))
        return;
      kept++;
      expect(tokens[row]).toBe(token);
    });
    expect(kept).toBeGreaterThan(ROWS / 4);
  });

  it('draws from softmax: chi-square over thousands of positions', async () => {
    const draws = bench.isSlow ? 1000 : 4000;
    const logits = Float32Array.of(0, 1, -1, 0.5, 2, -2, 1.25);
    const kernel = await compile(logits.length);
    const rows = new Float32Array(draws * logits.length).map((_, at) => logits[at % logits.length]!);
    const temperature = 1.25;
    const tokens = await run(bench, kernel, rows, logits.length, {
      ...PLAIN,
      temperature,
      topK: logits.length,
      seed: 7,
    });
    const weights = Array.from(logits, (logit) => Math.exp(logit / temperature));
    const total = weights.reduce((a, b) => a + b);
    const chiSquare = weights.reduce((sum, weight, id) => {
      const expected = (draws * weight) / total;
      return sum + (tokens.filter((token) => token === id).length - expected) ** 2 / expected;
    }, 0);
    // 6 degrees of freedom: 22.46 is exceeded by chance once in a thousand; the seed is fixed.
    expect(chiSquare).toBeLessThan(22.46);
  });

  it('stays finite at both ends of the hash', async () => {
    const kernel = await compile(7);
    // Found by search: the first word of the hash rounds to 2^32 in f32, or is nearly zero.
    for (const [position, id, isHigh] of [
      [898103, 3, true],
      [655969, 1, false],
    ] as const) {
      const [word] = hashPcg3d(1, position, id);
      expect(isHigh ? word >= 0xffffff80 : word < 64).toBe(true);
      const noise = Array.from({ length: 7 }, (_, other) => getGumbelNoise(1, position, other));
      const reference = noise.indexOf(Math.max(...noise));
      expect(reference === id).toBe(!isHigh);
      const tokens = await run(bench, kernel, new Float32Array(7), 7, { ...PLAIN, topK: 7 }, { position });
      expect(tokens).toEqual([reference]);
    }
  });

  it('keeps the largest when a filter leaves no room', async () => {
    const kernel = await compile();
    const logits = createLogits().map((logit, at) => (at % VOCAB === 123 ? 20 : logit));
    const largest = new Array(ROWS).fill(123);
    for (const options of [{ topP: 0 }, { topP: 1e-44 }, { topK: 0 }, { topK: 1, topP: 0, minP: 1 }]) {
      expect(await run(bench, kernel, logits, VOCAB, { ...PLAIN, ...options })).toEqual(largest);
    }
  });

  it('does nothing after a fault, also in shadow, and is not touched by the depth of run-ahead', async () => {
    const kernel = await compile();
    const logits = createLogits();
    const exact = await run(bench, kernel, logits, VOCAB, PLAIN);
    for (const state of [...MODES, { ...MODES[0]!, fault: LAYERS - 1, runAhead: 2 }]) {
      const tokens = await run(bench, kernel, logits, VOCAB, PLAIN, state);
      if (state.fault === NO_FAULT) expect(tokens, describeCase(state)).toEqual(exact);
      else expectUntouched(Uint32Array.from(tokens), describeCase(state));
    }
  });
});
