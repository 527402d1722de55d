import { beforeAll, describe, expect, it } from 'vitest';
import { readCheckpoint } from '../../../src/checkpoint/read-checkpoint';
import { EngineError } from '../../../src/errors';
import { installModel } from '../../../src/store/install';
import { createMemoryStore } from '../../../src/store/memory-store';
import { createTokenizer } from '../../../src/text/tokenizer';
import { readGoldenModel } from '../../golden';
import { memorySource } from './gguf-writer';
import { type Folder, type HfTensorSpec, openFolder, toJson, writeHfFolder, writeSafetensors } from './hf-folder';

const TEXTS = ['the cat  and\tdog’s 123 \u{1f600} \ufeff\u0085', '<|user|>hi<|end|>', ''];

describe.each([
  ['e16k4-f32', 1],
  ['e16k4-f16', 3],
  ['e16k4-bf16', 2],
  ['e16k4-tied-f32', 1],
  ['e8k8-norm-clip-f32', 2],
])('%s as a folder with %i safetensors files', (name, shards) => {
  it('installs to the pages, tensors, configuration and token ids of the GGUF file', async () => {
    const gguf = await readGoldenModel(name);
    const fromGguf = (await installModel(memorySource(gguf), createMemoryStore())).manifest;
    const folder = await writeHfFolder(gguf, shards);
    const { manifest } = await installModel(openFolder(folder), createMemoryStore());
    expect(manifest.digests).toEqual(fromGguf.digests);
    expect(manifest.config).toEqual(fromGguf.config);
    expect(manifest.pageLayouts).toEqual(fromGguf.pageLayouts);
    expect(manifest.resident).toEqual(fromGguf.resident);
    expect(manifest.modelId).toMatch(/^safetensors-[0-9a-f]{32}$/);
    expect(manifest.quantization).toBeUndefined();
    const { rules: _, ...tokenizer } = manifest.tokenizer;
    expect(tokenizer).toEqual({ ...fromGguf.tokenizer, pre: null });
    const [own, other] = [createTokenizer(manifest.tokenizer), createTokenizer(fromGguf.tokenizer)];
    for (const text of TEXTS) {
      for (const parseSpecial of [false, true]) {
        const options = { parseSpecial, addBos: true };
        expect(own.encode(text, options)).toEqual(other.encode(text, options));
      }
    }
  });
});

describe('quantised while it is installed', () => {
  it.each([
    ['q8_0', 'q8_0', 0.01],
    ['q4_0', 'q8_0', 0.12],
  ] as const)(
    'to %s: experts so, other matrices %s, with the error by kind of tensor',
    async (quantize, other, bound) => {
      const folder = await writeHfFolder(await readGoldenModel('e16k4-bf16'));
      const kept = await installModel(openFolder(folder), createMemoryStore());
      const { manifest } = await installModel(openFolder(folder), createMemoryStore(), { quantize });
      expect(manifest.modelId).not.toBe(kept.manifest.modelId);
      expect(manifest.pageLayouts.map(({ gateProj, downProj }) => [gateProj?.type, downProj.type])).toEqual(
        manifest.pageLayouts.map(() => [quantize, quantize]),
      );
      for (const { role, matrix } of manifest.resident) {
        const isMatrix = ['embedding', 'head', 'qProj', 'kProj', 'vProj', 'oProj'].includes(role);
        expect(matrix.type, role).toBe(isMatrix ? other : 'f32');
      }
      const kinds = Object.entries(manifest.quantization!);
      expect(kinds.map(([kind]) => kind).sort()).toEqual(
        ['downProj', 'embedding', 'gateProj', 'head', 'kProj', 'oProj', 'qProj', 'upProj', 'vProj'].sort(),
      );
      for (const [kind, { type, relativeRms }] of kinds) {
        expect(type).toBe(kind === 'gateProj' || kind === 'upProj' || kind === 'downProj' ? quantize : other);
        expect(relativeRms).toBeGreaterThan(type === 'q8_0' ? 0.002 : 0.05);
        expect(relativeRms).toBeLessThan(type === 'q8_0' ? 0.01 : bound);
      }
    },
  );

  it('is refused of a GGUF file', async () => {
    const source = memorySource(await readGoldenModel('e1k1-f32'));
    await expect(installModel(source, createMemoryStore(), { quantize: 'q8_0' })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringMatching(/is a GGUF file/),
    });
  });
});

it('knows a retrained model by its weights, and a renamed folder as the same', async () => {
  const folder = await writeHfFolder(await readGoldenModel('e1k1-f32'));
  const { modelId } = await readCheckpoint(openFolder(folder));
  expect((await readCheckpoint(openFolder(folder, 'elsewhere'))).modelId).toBe(modelId);
  const weights = folder.get('model.safetensors')!;
  const start = 8 + Number(new DataView(weights.buffer).getBigUint64(0, true));
  const retrained = weights.map((byte, at) => (at < start ? byte : byte ^ 1));
  const other = openFolder(new Map(folder).set('model.safetensors', retrained));
  expect((await readCheckpoint(other)).modelId).not.toBe(modelId);
});

describe('a folder that cannot be read', () => {
  let whole: Folder;
  let sharded: Folder;
  beforeAll(async () => {
    const gguf = await readGoldenModel('e1k1-f32');
    [whole, sharded] = [await writeHfFolder(gguf), await writeHfFolder(gguf, 2)];
  });

  const editJson = (folder: Folder, path: string, change: Record<string, unknown>): Folder => {
    const old = JSON.parse(new TextDecoder().decode(folder.get(path)));
    return new Map(folder).set(path, toJson({ ...old, ...change }));
  };
  const without = (folder: Folder, path: string): Folder => new Map([...folder].filter(([name]) => name !== path));
  const withWeights = (bytes: Uint8Array): Folder => new Map(whole).set('model.safetensors', bytes);
  const tensor = (change: Partial<HfTensorSpec> = {}): HfTensorSpec => ({
    name: 'model.norm.weight',
    dtype: 'F32',
    shape: [4],
    data: new Uint8Array(16),
    ...change,
  });
  const withLength = (length: bigint): Uint8Array => {
    const bytes = whole.get('model.safetensors')!.slice();
    new DataView(bytes.buffer).setBigUint64(0, length, true);
    return bytes;
  };
  const withHeader = (text: string): Uint8Array => {
    const bytes = new TextEncoder().encode(`12345678${text}`);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(bytes.byteLength - 8), true);
    return bytes;
  };
  const entry = (change: object) =>
    withWeights(writeSafetensors([tensor()], (header) => Object.assign(header['model.norm.weight'] as object, change)));

  const cases: [string, () => Folder, 'BAD_FILE' | 'UNSUPPORTED', RegExp][] = [
    ['no config.json', () => without(whole, 'config.json'), 'BAD_FILE', /"config.json" is missing/],
    ['no weights', () => without(whole, 'model.safetensors'), 'BAD_FILE', /"model.safetensors" is missing/],
    ['no tokenizer', () => without(whole, 'tokenizer.json'), 'BAD_FILE', /"tokenizer.json" is missing/],
    [
      'a missing shard',
      () => without(sharded, 'model-00002-of-00002.safetensors'),
      'BAD_FILE',
      /"model-00002-of-00002.safetensors" is missing/,
    ],
    [
      'a broken config.json',
      () => new Map(whole).set('config.json', new Uint8Array([0x7b, 0xff])),
      'BAD_FILE',
      /"config.json" is no JSON/,
    ],
    [
      'a list as config.json',
      () => new Map(whole).set('config.json', toJson([])),
      'BAD_FILE',
      /"config.json" is no JSON object/,
    ],
    [
      'another model type',
      () => editJson(whole, 'config.json', { model_type: 'mamba' }),
      'UNSUPPORTED',
      /"model_type" is "mamba"; accepted: olmoe/,
    ],
    [
      'another activation',
      () => editJson(whole, 'config.json', { hidden_act: 'gelu' }),
      'UNSUPPORTED',
      /"hidden_act" is "gelu"; accepted: silu/,
    ],
    [
      'scaled RoPE of another kind',
      () => editJson(whole, 'config.json', { rope_parameters: { rope_type: 'xpos' } }),
      'UNSUPPORTED',
      /rope_type" is "xpos"/,
    ],
    [
      'absurdly many layers',
      () => editJson(whole, 'config.json', { num_hidden_layers: 1e9 }),
      'BAD_FILE',
      /block_count" is 1000000000/,
    ],
    [
      'an index that names a path',
      () => editJson(sharded, 'model.safetensors.index.json', { weight_map: { a: '../x.safetensors' } }),
      'BAD_FILE',
      /names "..\/x.safetensors"/,
    ],
    [
      'an index without names',
      () => editJson(sharded, 'model.safetensors.index.json', { weight_map: 7 }),
      'BAD_FILE',
      /names 0 files/,
    ],
    [
      'an index of what is elsewhere',
      () => {
        const name = 'model-00001-of-00002.safetensors';
        return editJson(sharded, 'model.safetensors.index.json', { weight_map: { a: name } });
      },
      'BAD_FILE',
      /tensor "a" is in "model-00001-of-00002.safetensors", which does not have it/,
    ],
    ['an empty file', () => withWeights(new Uint8Array(0)), 'BAD_FILE', /has 0 bytes/],
    [
      'a header longer than the file',
      () => withWeights(withLength(1n << 62n)),
      'BAD_FILE',
      /its header has 4611686018427387904 bytes/,
    ],
    ['a header that is no JSON', () => withWeights(withHeader('{"a":')), 'BAD_FILE', /header is no JSON/],
    ['a header that is a list', () => withWeights(withHeader('[1,2]')), 'BAD_FILE', /no JSON object/],
    ['an entry that is null', () => withWeights(withHeader('{"a":null}')), 'BAD_FILE', /"a" has no "dtype"/],
    ['an unknown dtype', () => entry({ dtype: 'Q5' }), 'BAD_FILE', /unknown dtype "Q5"/],
    [
      'a dtype that is not read',
      () => entry({ dtype: 'I32' }),
      'UNSUPPORTED',
      /dtype I32; accepted are F32, F16, BF16/,
    ],
    [
      'offsets that do not fit the shape',
      () => entry({ data_offsets: [0, 8] }),
      'BAD_FILE',
      /takes 16 bytes; "data_offsets" leave 8/,
    ],
    ['negative offsets', () => entry({ data_offsets: [-16, 0] }), 'BAD_FILE', /no two whole numbers/],
    [
      'offsets behind the file',
      () => entry({ data_offsets: [1e12, 1e12 + 16] }),
      'BAD_FILE',
      /truncated; download it again/,
    ],
    ['a shape that overflows', () => entry({ shape: [1e15, 1e15] }), 'BAD_FILE', /takes 4e\+30 bytes/],
    ['a shape of fractions', () => entry({ shape: [1.5] }), 'BAD_FILE', /"shape" is no list/],
    [
      'tensors over each other',
      () =>
        withWeights(
          writeSafetensors([tensor(), tensor({ name: 'b' })], (header) => {
            header.b = { dtype: 'F32', shape: [4], data_offsets: [8, 24] };
          }),
        ),
      'BAD_FILE',
      /starts at byte \d+, inside/,
    ],
    [
      'a truncated file',
      () => withWeights(whole.get('model.safetensors')!.slice(0, -10)),
      'BAD_FILE',
      /truncated; download it again/,
    ],
    [
      'a tokenizer of another kind',
      () => editJson(whole, 'tokenizer.json', { model: { type: 'Unigram', vocab: [] } }),
      'UNSUPPORTED',
      /model type "Unigram" is not supported/,
    ],
    [
      'a token outside the vocabulary',
      () => editJson(whole, 'tokenizer.json', { added_tokens: [{ content: 'x', id: 1e6 }] }),
      'BAD_FILE',
      /token "x" has id 1000000; 0 to 261 is possible/,
    ],
    [
      'an end token that is none',
      () => editJson(whole, 'tokenizer_config.json', { eos_token: '<nope>' }),
      'BAD_FILE',
      /no token "<nope>", which is the eos_token/,
    ],
    [
      'an end id outside the vocabulary',
      () => new Map(whole).set('generation_config.json', toJson({ eos_token_id: [2, 5000] })),
      'BAD_FILE',
      /"eos_token_id" is 5000/,
    ],
  ];

  it.each(cases)('is refused: %s', async (_, make, code, message) => {
    const error = await installModel(openFolder(make()), createMemoryStore(), {
      onPlan: (plan) => void createTokenizer(plan.tokenizer),
    }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(EngineError);
    expect((error as EngineError).message).toMatch(message);
    expect((error as EngineError).code).toBe(code);
  });

  it('is refused when an expert is missing, or unlike the others', async () => {
    const gguf = await readGoldenModel('e5k1-gqa-f32');
    const folder = await writeHfFolder(gguf);
    const name = 'model.layers.1.mlp.experts.3.up_proj.weight';
    const change = (edit: (header: Record<string, unknown>) => void): Folder => {
      const bytes = folder.get('model.safetensors')!;
      const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
      const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
      edit(header);
      const json = toJson(header);
      const out = new Uint8Array(bytes.byteLength - length + json.byteLength);
      new DataView(out.buffer).setBigUint64(0, BigInt(json.byteLength), true);
      out.set(json, 8);
      out.set(bytes.subarray(8 + length), 8 + json.byteLength);
      return new Map(folder).set('model.safetensors', out);
    };
    const missing = change((header) => delete header[name]);
    await expect(readCheckpoint(openFolder(missing))).rejects.toMatchObject({
      code: 'BAD_FILE',
      message: expect.stringMatching(/expert 3 of blk.1.ffn_up_exps.weight is missing/),
    });
    const odd = change((header) => {
      const { shape } = header[name] as { shape: number[] };
      header[name] = { ...(header[name] as object), shape: [...shape].reverse() };
    });
    await expect(readCheckpoint(openFolder(odd))).rejects.toMatchObject({
      code: 'BAD_FILE',
      message: expect.stringMatching(/the experts of a layer are alike/),
    });
  });
});
