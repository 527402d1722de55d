import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { getWeightFormat } from '../../../src/checkpoint/formats';
import { type GgufFile, readGgufFile } from '../../../src/checkpoint/gguf';
import { buildInstallPlan, buildManifest, type InstallPlan } from '../../../src/checkpoint/install-plan';
import type { PackedMatrix } from '../../../src/checkpoint/manifest';
import { EngineError, type ErrorCode } from '../../../src/errors';
import { createAttention, createMoe } from '../../plain-config';
import {
  type Entry,
  memorySource,
  removeEntry,
  setEntry,
  setTensor,
  type TensorSpec,
  tinyOlmoe,
  writeTinyOlmoe,
} from './gguf-writer';

const readPlan = async (bytes: Uint8Array): Promise<InstallPlan> =>
  buildInstallPlan(await readGgufFile(memorySource(bytes)));

async function packAll(plan: InstallPlan, file: Uint8Array): Promise<Map<string, Uint8Array>> {
  const packed = new Map<string, Uint8Array>();
  for (const record of plan.records) {
    const ranges = record.sourceRanges.map(({ offsetBytes, lengthBytes }) =>
      file.slice(offsetBytes, offsetBytes + lengthBytes),
    );
    packed.set(record.key, await record.pack(ranges));
  }
  return packed;
}

const read = (record: Uint8Array | undefined, matrix: PackedMatrix): Float32Array =>
  getWeightFormat(matrix.type).dequantize(
    record!.subarray(matrix.offsetBytes, matrix.offsetBytes + matrix.sizeBytes),
    matrix.rows,
    matrix.cols,
  );

function readTensor(gguf: GgufFile, file: Uint8Array, name: string): Float32Array {
  const { type, shape, offsetBytes, sizeBytes } = gguf.tensors.get(name)!;
  const count = shape.reduce((a, b) => a * b, 1);
  return getWeightFormat(type).dequantizeFile(file.slice(offsetBytes, offsetBytes + sizeBytes), count);
}

describe('an install plan', () => {
  it('describes the model by its tensors’ shapes', async () => {
    const { config, name, modelId } = await readPlan(writeTinyOlmoe());
    expect(name).toBe('tiny');
    expect(modelId).toMatch(/^gguf-/);
    expect(config).toEqual({
      architecture: 'olmoe',
      layers: 2,
      hiddenSize: 32,
      vocabSize: 20,
      contextLength: 64,
      norm: { kind: 'rms', epsilon: Math.fround(1e-5) },
      embeddingScale: 1,
      residualScale: 1,
      logitScale: 1,
      tiedHead: true,
      headBias: false,
      mixers: ['full', 'full'],
      convolution: null,
      attention: createAttention({ heads: 4, kvHeads: 2, headDim: 8, qkNorm: 'full' }),
      moe: createMoe({ experts: 3, expertsPerToken: 2, expertWidth: 32 }),
      moeLayers: [0, 1],
      denseWidth: null,
    });
  });

  it('reads the optional keys', async () => {
    const plan = await readPlan(
      writeTinyOlmoe(({ entries }) => {
        setEntry(entries, ['olmoe.attention.clamp_kqv', 'f32', 8]);
        setEntry(entries, ['olmoe.rope.freq_base', 'f32', 500_000]);
        setEntry(entries, ['olmoe.expert_weights_norm', 'bool', true]);
        removeEntry(entries, 'general.name');
      }),
    );
    expect(plan.name).toBe('test.gguf');
    expect(plan.config.attention.clipQkv).toBe(8);
    expect(plan.config.attention.rope.theta).toBe(500_000);
    expect(plan.config.moe.router.normalize).toBe(true);
  });

  it('gives every weight of the file to exactly one record, in file order', async () => {
    const bytes = writeTinyOlmoe();
    const gguf = await readGgufFile(memorySource(bytes));
    const plan = buildInstallPlan(gguf);
    const ranges = plan.records.flatMap((record) => record.sourceRanges);
    ranges.sort((a, b) => a.offsetBytes - b.offsetBytes);
    for (const [i, range] of ranges.entries()) {
      const next = ranges[i + 1];
      if (next) expect(range.offsetBytes + range.lengthBytes).toBeLessThanOrEqual(next.offsetBytes);
    }
    const total = [...gguf.tensors.values()].reduce((sum, tensor) => sum + tensor.sizeBytes, 0);
    expect(ranges.reduce((sum, range) => sum + range.lengthBytes, 0)).toBe(total);
    const starts = plan.records.map((record) => record.sourceRanges[0]!.offsetBytes);
    expect(starts).toEqual([...starts].sort((a, b) => a - b));
    expect(new Set(plan.records.map(({ key }) => key)).size).toBe(plan.records.length);
  });

  it('packs each expert’s three projections into one page, and each resident tensor whole', async () => {
    const bytes = writeTinyOlmoe();
    const gguf = await readGgufFile(memorySource(bytes));
    const plan = buildInstallPlan(gguf);
    const packed = await packAll(plan, bytes);
    for (const record of plan.records) expect(packed.get(record.key)!.byteLength).toBe(record.sizeBytes);
    for (const [layer, layout] of plan.pageLayouts.entries()) {
      for (const [name, matrix] of [
        ['gate', layout.gateProj!],
        ['up', layout.upProj],
        ['down', layout.downProj],
      ] as const) {
        const all = readTensor(gguf, bytes, `blk.${layer}.ffn_${name}_exps.weight`);
        const size = matrix.rows * matrix.cols;
        for (let expert = 0; expert < tinyOlmoe.experts; expert++) {
          const page = packed.get(`page/${layer}/${expert}`);
          expect(read(page, matrix)).toEqual(all.slice(expert * size, (expert + 1) * size));
        }
      }
    }
    const names: Record<string, string> = {
      'tensor/embedding': 'token_embd.weight',
      'tensor/1/qProj': 'blk.1.attn_q.weight',
      'tensor/1/kNorm': 'blk.1.attn_k_norm.weight',
      'tensor/0/router': 'blk.0.ffn_gate_inp.weight',
    };
    for (const [key, name] of Object.entries(names)) {
      const { matrix } = plan.resident.find((tensor) => tensor.key === key)!;
      expect(read(packed.get(key), matrix)).toEqual(readTensor(gguf, bytes, name));
    }
    expect(plan.resident.some(({ role }) => role === 'head')).toBe(false);
  });

  it('widens norms and routers that the file holds as F16 or BF16', async () => {
    const half = (count: number) => new Uint8Array(new Uint16Array(count).fill(0x3c80).buffer);
    const bytes = writeTinyOlmoe(({ tensors }) => {
      setTensor(tensors, 'output_norm.weight', { type: 1, data: half(32) });
      setTensor(tensors, 'blk.0.ffn_gate_inp.weight', { type: 30, data: half(96) });
    });
    const plan = await readPlan(bytes);
    const packed = await packAll(plan, bytes);
    const get = (key: string) => read(packed.get(key), plan.resident.find((tensor) => tensor.key === key)!.matrix);
    expect(get('tensor/outputNorm')).toEqual(new Float32Array(32).fill(1.125));
    expect(get('tensor/0/router')).toEqual(new Float32Array(96).fill(0.015625));
  });

  it('becomes a manifest of plain data', async () => {
    const plan = await readPlan(writeTinyOlmoe());
    const digests = Object.fromEntries(plan.records.map(({ key }) => [key, '00']));
    const manifest = buildManifest(plan, digests, 'id', 'name');
    expect(JSON.parse(JSON.stringify(manifest))).toEqual(manifest);
    expect(manifest).toMatchObject({ format: 4, modelId: 'id', name: 'name', sourceBytes: plan.sourceBytes });
    expect(buildManifest(plan, {}).digests, 'before anything is installed').toEqual({});
  });

  it('keeps the types of the embedded model, and its bytes', async () => {
    const path = new URL('../../../public/models/webmoe-chat-22m-Q4_0.gguf', import.meta.url);
    const bytes = new Uint8Array(readFileSync(path));
    const gguf = await readGgufFile(memorySource(bytes));
    const plan = buildInstallPlan(gguf);
    expect(plan.config).toMatchObject({ layers: 6, hiddenSize: 256, vocabSize: 4096, contextLength: 1024 });
    expect(plan.config.moe).toEqual(createMoe({ experts: 32, expertsPerToken: 4, expertWidth: 128 }));
    expect(plan.records.length).toBe(3 + 6 * 9 + 6 * 32);
    const packed = await packAll(plan, bytes);
    const page = packed.get('page/5/31')!;
    const { downProj } = plan.pageLayouts[5]!;
    expect(downProj).toMatchObject({ type: 'q4_0', rows: 256, cols: 128 });
    const down = gguf.tensors.get('blk.5.ffn_down_exps.weight')!;
    const slab = down.sizeBytes / 32;
    const end = down.offsetBytes + down.sizeBytes;
    const unpacked = getWeightFormat('q4_0').unpack(page.subarray(downProj.offsetBytes), downProj.rows, downProj.cols);
    expect(unpacked).toEqual(bytes.slice(end - slab, end));
    expect(plan.tokenizer).toMatchObject({ model: 'gpt2', pre: 'gpt-2', bosId: 0, endIds: [5], addBos: false });
    expect(plan.tokenizer.tokens.length).toBe(4096);
  });
});

describe('a file that webmoe does not run', () => {
  const cases: [string, (spec: { entries: Entry[]; tensors: TensorSpec[] }) => void, ErrorCode, RegExp][] = [
    [
      'another architecture',
      ({ entries }) => setEntry(entries, ['general.architecture', 'string', 'mamba']),
      'UNSUPPORTED',
      /architecture "mamba" is not supported; supported: olmoe/,
    ],
    [
      'no architecture',
      ({ entries }) => removeEntry(entries, 'general.architecture'),
      'BAD_FILE',
      /"general.architecture" is missing/,
    ],
    [
      'no tokenizer',
      ({ entries }) => removeEntry(entries, 'tokenizer.ggml.tokens'),
      'UNSUPPORTED',
      /missing tokenizer/,
    ],
    [
      'another vocabulary',
      ({ entries }) => setEntry(entries, ['tokenizer.ggml.tokens', 'array', 'string', ['a', 'b']]),
      'BAD_FILE',
      /has 2 entries; the embedding has 20 rows/,
    ],
    [
      'an end token outside the vocabulary',
      ({ entries }) => setEntry(entries, ['tokenizer.ggml.eos_token_id', 'u32', 20]),
      'BAD_FILE',
      /eos_token_id" is 20; 0 to 19 is possible/,
    ],
    [
      'more experts per token than experts',
      ({ entries }) => setEntry(entries, ['olmoe.expert_used_count', 'u32', 4]),
      'BAD_FILE',
      /expert_used_count" is 4; 1 to 3 is possible/,
    ],
    [
      'heads that key heads do not divide',
      ({ entries }) => setEntry(entries, ['olmoe.attention.head_count_kv', 'u32', 3]),
      'BAD_FILE',
      /4 attention heads over 3/,
    ],
    [
      'a head size that is odd',
      ({ entries }) => setEntry(entries, ['olmoe.attention.head_count', 'u32', 32]),
      'BAD_FILE',
      /32 rows for 32 heads/,
    ],
    [
      'absurdly many layers',
      ({ entries }) => setEntry(entries, ['olmoe.block_count', 'u32', 4_000_000_000]),
      'BAD_FILE',
      /block_count" is 4000000000; 1 to 1024/,
    ],
    [
      'a layer that is not there',
      ({ entries }) => setEntry(entries, ['olmoe.block_count', 'u32', 3]),
      'BAD_FILE',
      /"blk.2.attn_norm.weight" is missing/,
    ],
    [
      'a layer too many',
      ({ entries }) => setEntry(entries, ['olmoe.block_count', 'u32', 1]),
      'UNSUPPORTED',
      /"blk.1.attn_norm.weight" has no place/,
    ],
    [
      'a bias',
      ({ tensors }) =>
        tensors.push({ name: 'blk.0.attn_norm.bias', dimensions: [32], type: 0, data: new Uint8Array(128) }),
      'UNSUPPORTED',
      /"blk.0.attn_norm.bias" has no place/,
    ],
    [
      'a bias of the queries alone',
      ({ tensors }) =>
        tensors.push({ name: 'blk.0.attn_q.bias', dimensions: [32], type: 0, data: new Uint8Array(128) }),
      'BAD_FILE',
      /"blk.0.attn_k.bias" is missing/,
    ],
    [
      'a tensor of another shape',
      ({ tensors }) => setTensor(tensors, 'blk.1.attn_v.weight', { dimensions: [16, 32] }),
      'BAD_FILE',
      /"blk.1.attn_v.weight" has shape \[32, 16\]; expected \[16, 32\]/,
    ],
    [
      'a quantised router',
      ({ tensors }) => setTensor(tensors, 'blk.0.ffn_gate_inp.weight', { type: 8, data: new Uint8Array(3 * 34) }),
      'UNSUPPORTED',
      /"blk.0.ffn_gate_inp.weight" has type Q8_0; norms and routers are F32/,
    ],
    [
      'gate and up projections of two types',
      ({ tensors }) => setTensor(tensors, 'blk.1.ffn_up_exps.weight', { type: 8, data: new Uint8Array(3 * 32 * 34) }),
      'UNSUPPORTED',
      /"blk.1.ffn_gate_exps.weight" has type F32, "blk.1.ffn_up_exps.weight" Q8_0/,
    ],
    [
      'a K type in narrow rows',
      ({ tensors }) => setTensor(tensors, 'blk.0.attn_q.weight', { type: 12, data: new Uint8Array(576) }),
      'BAD_FILE',
      /"blk.0.attn_q.weight" has 32 columns; q4_k needs a multiple of 256/,
    ],
    [
      'RoPE scaling of another kind',
      ({ entries }) => setEntry(entries, ['olmoe.rope.scaling.type', 'string', 'dynamic']),
      'UNSUPPORTED',
      /RoPE scaling "dynamic" \("olmoe.rope.scaling.type"\); accepted: none, linear, yarn, and longrope by/,
    ],
    [
      'rotation of an odd number of dimensions',
      ({ entries }) => setEntry(entries, ['olmoe.rope.dimension_count', 'u32', 5]),
      'BAD_FILE',
      /rope.dimension_count" is 5; an even number/,
    ],
    [
      'routing of another kind',
      ({ entries }) => setEntry(entries, ['olmoe.expert_gating_func', 'u32', 4]),
      'UNSUPPORTED',
      /expert_gating_func" is 4; accepted: 1 and 3 \(softmax\), 2 \(sigmoid\)/,
    ],
    [
      'a head size that differs from the values’',
      ({ entries }) => setEntry(entries, ['olmoe.attention.value_length', 'u32', 16]),
      'UNSUPPORTED',
      /attention.value_length" is 16; accepted: the head size, 8/,
    ],
    [
      'a soft cap',
      ({ entries }) => setEntry(entries, ['olmoe.final_logit_softcapping', 'f32', 30]),
      'UNSUPPORTED',
      /final_logit_softcapping" is 30; accepted: 0 \(no soft cap\)/,
    ],
    [
      'an epsilon that is no number',
      ({ entries }) => setEntry(entries, ['olmoe.attention.layer_norm_rms_epsilon', 'f32', Number.NaN]),
      'BAD_FILE',
      /layer_norm_rms_epsilon" is NaN/,
    ],
  ];

  it.each(cases)('is refused: %s', async (_name, edit, code, message) => {
    const error = await readPlan(writeTinyOlmoe(edit)).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(EngineError);
    expect((error as EngineError).message).toMatch(message);
    expect((error as EngineError).code).toBe(code);
  });

  it('is refused when a matrix has columns that are no multiple of 32, naming it', async () => {
    const bytes = writeTinyOlmoe(() => {}, { ...tinyOlmoe, hiddenSize: 48 });
    const error = await readPlan(bytes).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/"token_embd.weight" has 48 columns; a multiple of 32/),
    });
  });
});
