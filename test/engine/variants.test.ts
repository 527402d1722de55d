/**
 * Forms that are forced: whatever rounds or reorders, a fixed form gives the same bits from the smallest budget as with
 * everything resident, behind a kept prefix and behind guesses; and how far it lies from the default is held to a bound.
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { Engine, GenerateRequest, LoadOptions } from '../../src/engine/engine';
import { createLocalEngine } from '../../src/engine/local-engine';
import { getDivergence } from '../divergence';
import { readGoldenModel } from '../golden';
import { loadArchitecture } from '../golden/architectures';
import { catchError, generate, loadModel, openSession, toBits } from './engine-session';
import { computeLogits, openFile } from './golden-runtime';

const isFull = Boolean(import.meta.env.WEBMOE_FULL);

const engines: Engine[] = [];
afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.unload();
});

const readArchitecture = async (name: string): Promise<Uint8Array<ArrayBuffer>> =>
  (await loadArchitecture(name))[0]?.gguf as Uint8Array<ArrayBuffer>;

/** Ids that no two prompts share by chance. */
const createIds = (count: number, seed: number): number[] =>
  Array.from({ length: count }, (_, i) => 3 + ((i * i + 7 * i + seed * 31) % 45));

/** Attention takes 128 positions at a time: a context must be longer for more than one span. */
const LONG = 256;

/** The file of a model whose rotations know no end, with another context length. */
function withLongContext(file: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const long = file.slice();
  const header = new TextDecoder('latin1').decode(long.subarray(0, 1 << 16));
  const key = '.context_length';
  // The key, and the type of its value.
  new DataView(long.buffer).setUint32(header.indexOf(key) + key.length + 4, LONG, true);
  return long;
}

const IN_SPANS = { attentionSpans: 3 };

const FORMS: readonly (readonly [name: string, read: () => Promise<Uint8Array<ArrayBuffer>>, form: LoadOptions])[] = [
  ['OLMoE, no subgroups', () => readGoldenModel('e16k4-q4_0'), { kernels: { subgroups: false } }],
  ['OLMoE, packed dot products', () => readGoldenModel('e16k4-q4_0'), { kernels: { packedDot: true } }],
  ['OLMoE, attention in spans', () => readGoldenModel('e16k4-q4_0'), { kernels: IN_SPANS }],
  ['gpt-oss, a sliding window and sinks in spans', () => readArchitecture('gpt_oss'), { kernels: IN_SPANS }],
  ['OLMoE, f16', () => readGoldenModel('e16k4-q4_0'), { kvType: 'f16' }],
  ['OLMoE, q8', () => readGoldenModel('e16k4-q4_0'), { kvType: 'q8' }],
  ['gpt-oss, a sliding window, f16', () => readArchitecture('gpt_oss'), { kvType: 'f16' }],
  ['gpt-oss, a sliding window, q8', () => readArchitecture('gpt_oss'), { kvType: 'q8' }],
  ['DeepSeek-V2, latents, f16', () => readArchitecture('deepseek2'), { kvType: 'f16' }],
  ['DeepSeek-V2, latents, q8, in spans', () => readArchitecture('deepseek2'), { kvType: 'q8', kernels: IN_SPANS }],
];
/** Packed products, and the cache that rounds most where it is read in the most ways. */
const SAMPLE = [1, 9];

describe.each(FORMS.filter((_, i) => isFull || SAMPLE.includes(i)))('%s', (_, read, form) => {
  it('gives the same bits paged and resident, behind a kept prefix and behind guesses', async () => {
    const isSplit = form.kernels?.attentionSpans !== undefined;
    const file = isSplit ? withLongContext(await read()) : await read();
    const open = async (options: LoadOptions) => {
      const session = await openSession(file, options);
      engines.push(session.engine);
      return session;
    };
    const resident = await open(form);
    const { experts, expertsPerToken } = resident.loaded;
    const paged = await open({ ...form, expertBudget: { percent: (expertsPerToken / experts) * 100 } });
    const { packedDot, subgroups } = form.kernels ?? {};
    expect(resident.loaded.variants).toMatchObject({
      kv: form.kvType ?? 'f32',
      kernels: expect.stringMatching(
        `^${subgroups === false ? 'workgroup' : '.*'}-4${isSplit ? '-split-3' : ''}${packedDot ? '-packed' : ''}$`,
      ),
    });
    expect(paged.loaded.variants).toEqual(resident.loaded.variants);

    const prompt = createIds(isSplit ? 135 : 37, 1);
    const run = async (engine: Engine, own: Partial<GenerateRequest> = {}) => {
      const request: GenerateRequest = { tokenIds: prompt, maxTokens: 10, ignoreEos: true, topLogprobs: 2, ...own };
      const { result } = await generate(engine, request);
      return { ...result, bits: toBits(result.logprobs) };
    };
    const plain = { reusePrefix: false, draft: { kind: 'off' } } as const;
    const whole = await run(resident.engine, plain);
    const fromPages = await run(paged.engine, plain);
    expect(fromPages.stats.faultingLayers).toBeGreaterThan(0);
    expect(fromPages.bits).toEqual(whole.bits);
    if (isSplit) {
      // The second token is the first that is decoded.
      const { engine } = await open({ ...form, kernels: {} });
      const inOne = await run(engine, { ...plain, maxTokens: 2 });
      expect(whole.bits[0]).toEqual(inOne.bits[0]);
      expect(whole.bits[1]).not.toEqual(inOne.bits[1]);
      expect(whole.logprobs[1]?.logprob).toBeCloseTo(inOne.logprobs[1]?.logprob as number, 4);
    }

    const drafted = await run(paged.engine, { reusePrefix: false, draft: { kind: 'self', tokens: 3 } });
    expect(drafted.stats.draft.proposed).toBeGreaterThan(0);
    expect(drafted.bits).toEqual(whole.bits);

    const next = [...prompt, ...whole.tokenIds, ...createIds(9, 2)];
    const kept = await run(paged.engine, { tokenIds: next, maxTokens: 3 });
    expect(kept.stats.reusedTokens).toBeGreaterThan(0);
    expect(kept.bits).toEqual((await run(resident.engine, { ...plain, tokenIds: next, maxTokens: 3 })).bits);
  });
});

it.each(['subgroups', 'packedDot', 'f16', 'subgroupMatrix'])(
  '%s are refused where the adapter is to have none',
  async (option) => {
    const kernels = { [option]: true };
    const load = loadModel(createLocalEngine(), 'e1k1-f32', { defaultLimitsOnly: true, kernels });
    const { error } = await catchError(load);
    expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('leave the option out') });
  },
);

it('keys and values of type auto are f16 where the adapter has shader-f16, whatever the budget', async () => {
  const adapter = await navigator.gpu.requestAdapter();
  for (const percent of [100, 25]) {
    const session = await openSession('e16k4-q4_0', { kvType: 'auto', expertBudget: { percent } });
    engines.push(session.engine);
    expect(session.loaded.variants.kv).toBe(adapter?.features.has('shader-f16') ? 'f16' : 'f32');
  }
});

describe('the error of what rounds', () => {
  /** Nats, mean over the positions: the embedded model in full, else one of random weights, which rounding moves further. */
  it.each([
    [{ kvType: 'f16' }, 1e-5],
    [{ kvType: 'q8' }, isFull ? 1e-3 : 5e-3],
  ] as const)('%o stays below %d nats of divergence', async (form, most) => {
    const file = isFull ? await readEmbedded() : await readGoldenModel('e16k4-q4_0');
    const exact = await openFile(file);
    const rounded = await openFile(file, form);
    const { vocabSize } = exact.runtime.manifest.config;
    const ids = Array.from({ length: isFull ? 250 : 60 }, (_, i) => 3 + ((i * i + 11 * i) % (vocabSize - 3)));
    const expected = await computeLogits(exact, ids);
    const found = await computeLogits(rounded, ids);
    const divergences = expected.map((logits, i) => getDivergence(logits, found[i] as Float32Array));
    exact.runtime.destroy();
    rounded.runtime.destroy();
    const mean = divergences.reduce((sum, value) => sum + value, 0) / divergences.length;
    expect(mean).toBeGreaterThan(0);
    expect(mean).toBeLessThan(most);
  });
});

async function readEmbedded(): Promise<Uint8Array<ArrayBuffer>> {
  const { url } = await (await fetch('/models/default.json')).json();
  return new Uint8Array(await (await fetch(`/${url}`)).arrayBuffer());
}
