/** Every architecture's config.json and tensors against its GGUF file, and what of them is refused. No GPU. */
import { describe, expect, it } from 'vitest';
import { TensorReader } from '../../../src/checkpoint/architecture';
import { architectures } from '../../../src/checkpoint/architectures';
import type { TensorEntry } from '../../../src/checkpoint/checkpoint';
import { createLoneFile } from '../../../src/checkpoint/checkpoint-files';
import { getWeightFormat } from '../../../src/checkpoint/formats';
import { quantize } from '../../../src/checkpoint/formats/quantize';
import { readLatent } from '../../../src/checkpoint/gguf-latent';
import { ggufNames } from '../../../src/checkpoint/gguf-names';
import { hfModelTypes } from '../../../src/checkpoint/hf-models';
import { buildInstallPlan, type InstallPlan } from '../../../src/checkpoint/install-plan';
import type { WeightType } from '../../../src/checkpoint/model-config';
import { readCheckpoint } from '../../../src/checkpoint/read-checkpoint';
import { architectureNames, loadArchitecture } from '../../golden/architectures';
import { loadResearch, researchNames } from '../../golden/research';
import { loadSafetensors, safetensorsNames } from '../../golden/safetensors';
import { memorySource } from './gguf-writer';
import { openFolder, toJson, writeSafetensors } from './hf-folder';

const plan = async (folder: Map<string, Uint8Array>): Promise<InstallPlan> =>
  buildInstallPlan(await readCheckpoint(openFolder(folder)));

const editConfig = async (name: string, change: Record<string, unknown>): Promise<Map<string, Uint8Array>> => {
  const [golden] = await (researchNames.includes(name) ? loadResearch(name) : loadSafetensors(name));
  const folder = new Map<string, Uint8Array>(golden!.folder);
  const config = JSON.parse(new TextDecoder().decode(folder.get('config.json')));
  return folder.set('config.json', toJson({ ...config, ...change }));
};

it('every architecture has a model_type, and a golden folder', () => {
  expect([...new Set(hfModelTypes.map(({ architecture }) => architecture))].sort()).toEqual(
    architectures.map(({ name }) => name).sort(),
  );
  expect([...safetensorsNames].sort()).toEqual([...architectureNames, 'olmoe'].sort());
  expect(researchNames.length + safetensorsNames.length).toBe(architectures.length);
});

describe.each(architectureNames)('%s', (name) => {
  it('is the same model by config.json and safetensors as by the keys of its GGUF file', async () => {
    const [files, folders] = await Promise.all([loadArchitecture(name), loadSafetensors(name)]);
    for (const [i, { gguf, name: model }] of files.entries()) {
      const expected = buildInstallPlan(await readCheckpoint(createLoneFile(memorySource(gguf))));
      const found = await plan(folders[i]!.folder);
      const { rope, scale } = expected.config.attention;
      // Only converters to GGUF reorder q and k.
      const isReordered = ['mixtral', 'granitemoe'].includes(name);
      const pairing = isReordered ? 'half' : rope.pairing;
      const { attention, norm, moe, ...rest } = found.config;
      // Files keep numbers as f32.
      const close = (value: number): unknown => expect.closeTo(value, 6);
      expect({ ...rest, norm, moe, attention }, model).toEqual({
        ...expected.config,
        residualScale: close(expected.config.residualScale),
        logitScale: close(expected.config.logitScale),
        norm: { ...expected.config.norm, epsilon: close(expected.config.norm.epsilon) },
        attention: {
          ...expected.config.attention,
          scale: close(scale),
          rope: { ...rope, theta: expect.closeTo(rope.theta, -1), pairing },
        },
      });
      expect(found.pageLayouts, model).toEqual(expected.pageLayouts);
      expect(found.resident, model).toEqual(expected.resident);
    }
  });
});

describe('a configuration that is not run', () => {
  it.each([
    ['mixtral', { hidden_act: 'gelu' }, 'UNSUPPORTED', /"hidden_act" is "gelu"; accepted: silu/],
    ['mixtral', { hidden_size: 80 }, 'BAD_FILE', /embedding_length" is 80; .* has shape \[48, 64\]/],
    ['mixtral', { num_local_experts: 7 }, 'BAD_FILE', /expert_count" is 7; .* has 5 experts/],
    ['mixtral', { num_experts_per_tok: 6 }, 'BAD_FILE', /expert_used_count" is 6; 1 to 5/],
    [
      'qwen2moe',
      { layer_types: ['full_attention'] },
      'BAD_FILE',
      /"layer_types" names 1 layers, "num_hidden_layers" is 2/,
    ],
    [
      'qwen2moe',
      { layer_types: ['full_attention', 'mamba'] },
      'UNSUPPORTED',
      /"layer_types" is "mamba"; accepted: full_attention, sliding_attention/,
    ],
    [
      'qwen3moe',
      { rope_parameters: { rope_type: 'llama3', rope_theta: 1e4 } },
      'UNSUPPORTED',
      /"rope_parameters.rope_type" is "llama3"; accepted: default, linear, yarn/,
    ],
    [
      'hunyuan_moe',
      { moe_topk: [2, 1] },
      'UNSUPPORTED',
      /"moe_topk" is "\[2, 1\]"; accepted: one value for all layers/,
    ],
    [
      'hunyuan_moe',
      { rope_parameters: { rope_type: 'dynamic', factor: 2 } },
      'UNSUPPORTED',
      /accepted: default, dynamic with "alpha"/,
    ],
    ['phimoe', { num_experts_per_tok: 3 }, 'UNSUPPORTED', /expert_used_count" is 3; accepted: 2/],
    [
      'phimoe',
      { rope_parameters: { rope_type: 'longrope', short_factor: [1], short_mscale: 1, long_mscale: 2 } },
      'UNSUPPORTED',
      /"long_mscale" is "2"; accepted: the same as "short_mscale", 1/,
    ],
    [
      'phimoe',
      { rope_parameters: { rope_type: 'longrope', short_mscale: 1, long_mscale: 1 } },
      'BAD_FILE',
      /short_factor" is missing/,
    ],
    ['glm4moe', { n_group: 3, topk_group: 2 }, 'BAD_FILE', /5 experts in 3 groups/],
    ['ernie4_5_moe', { num_hidden_layers: null }, 'BAD_FILE', /"num_hidden_layers" is missing/],
    ['adamoe', { num_null_experts: 3 }, 'BAD_FILE', /expert_null_count" is 3; .*gate2.weight has 4 rows/],
    ['rmoe', { moe_router_type: 'rnn' }, 'UNSUPPORTED', /"moe_router_type" is "rnn"; accepted: gru/],
    ['rmoe', { add_moe_bias: true }, 'UNSUPPORTED', /"add_moe_bias" is "true"; accepted: false/],
    ['rmoe', { moe_router_rnn_hidden_size: 16 }, 'BAD_FILE', /router_state_length" is 16; .*weight1 has 32 rows/],
    [
      'rexmoe',
      { expert_reuse_layers: 3 },
      'UNSUPPORTED',
      /"expert_reuse_layers" is "3"; accepted: divisors of num_hidden_layers, 2/,
    ],
    ['rexmoe', { expert_reuse_layers: 1 }, 'BAD_FILE', /gate.weight" has shape \[10, 64\]; expected \[5, 64\]/],
    ['coe', { outer_residual: true }, 'UNSUPPORTED', /"outer_residual" is "true"; accepted: false/],
    ['coe', { inner_residual: false }, 'UNSUPPORTED', /"inner_residual" is "false"; accepted: true/],
    ['coe', { first_k_dense_replace: 1 }, 'UNSUPPORTED', /"first_k_dense_replace" is "1"; accepted: 0/],
    ['coe', { inner_iter: 1 }, 'UNSUPPORTED', /"inner_iter" is "1"; accepted: as many as there are routers/],
    ['coe', { inner_iter: 3 }, 'BAD_FILE', /blk.2.ffn_gate_inp.weight" is missing/],
    ['coe', { use_igate: false }, 'UNSUPPORTED', /blk.1.ffn_gate_inp.weight" has no place/],
    ['coe', { use_igate: null }, 'BAD_FILE', /"use_igate" is missing/],
    ['openmoe', { hidden_act: 'gelu' }, 'UNSUPPORTED', /"hidden_act" is "gelu"; accepted: swiglu/],
    ['openmoe', { mlp_gated: false }, 'UNSUPPORTED', /"mlp_gated" is "false"; accepted: true/],
    ['openmoe', { moe_layer_interval: 0 }, 'BAD_FILE', /"moe_layer_interval"/],
    ['openmoe', { moe_layer_interval: 2 }, 'UNSUPPORTED', /tensor "blk.1.ffn_gat.* has no place/],
    ['dynamic_moe', { top_p_threshold: null }, 'UNSUPPORTED', /"model_type" is "llama"; accepted: .*top_p_threshold/],
    ['dynamic_moe', { top_p_threshold: 1.5 }, 'BAD_FILE', /top_p_threshold/],
    ['blockffn', { ffn_type: 'vanilla' }, 'UNSUPPORTED', /"ffn_type" is "vanilla"; accepted: block/],
    ['blockffn', { router_act: 'gelu' }, 'UNSUPPORTED', /"router_act" is "gelu"; accepted: relu/],
    ['blockffn', { norm_after_router: 'max' }, 'UNSUPPORTED', /"norm_after_router" is "max"; accepted: rms, sum, none/],
    ['blockffn', { norm_after_router: 'sum' }, 'UNSUPPORTED', /ffn_gate_inp_norm.weight" has no place/],
  ] as const)('%s with %j is refused', async (name, change, code, message) => {
    const folder = await editConfig(name, change);
    await expect(plan(folder)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });
});

it('rounds all three products of an OpenMoE expert to one type, which kernels read together', async () => {
  const [golden] = await loadResearch('openmoe');
  const { pageLayouts } = buildInstallPlan(await readCheckpoint(openFolder(golden!.folder), { quantize: 'q4_0' }));
  for (const { gateProj, upProj, factorProj } of pageLayouts)
    expect([gateProj?.type, upProj.type, factorProj?.type]).toEqual(['q4_0', 'q4_0', 'q4_0']);
});

describe('fields of older versions', () => {
  it('"rope_theta" and "rope_scaling" are what "rope_parameters" says', async () => {
    for (const name of ['gpt_oss', 'phimoe', 'hunyuan_moe']) {
      const [golden] = await loadSafetensors(name);
      const { rope_parameters: rope } = JSON.parse(new TextDecoder().decode(golden!.folder.get('config.json')));
      const { rope_theta, rope_type, ...scaling } = rope;
      const folder = await editConfig(name, {
        rope_parameters: null,
        rope_theta,
        rope_scaling: { type: rope_type, ...scaling },
      });
      expect((await plan(folder)).config, name).toEqual((await plan(golden!.folder)).config);
    }
  });
});

describe('keys and values of latent attention in one tensor', () => {
  it('are parted head by head: keys transposed, as f32 where they are quantised, values as they are', async () => {
    // Two heads of 32 + 16 rows of 32.
    const [heads, plainDim, valueDim, rank] = [2, 32, 16, 32];
    const floats = Float32Array.from(
      { length: heads * (plainDim + valueDim) * rank },
      (_, i) => ((i * 37) % 101) / 50 - 1,
    );
    for (const type of ['f32', 'q8_0'] as const) {
      const file = type === 'f32' ? new Uint8Array(floats.buffer) : quantize(type, floats);
      const values = getWeightFormat(type).dequantizeFile(file, floats.length);
      const entry = (name: string, shape: number[], own: WeightType = 'f32'): [string, TensorEntry] => [
        name,
        { name, type: own, shape, getSlab: () => ({ ranges: [], assemble: () => file }) },
      ];
      const tensors = new TensorReader({
        sourceName: 'test',
        tensors: new Map([
          entry('blk.0.attn_q.weight', [heads * (plainDim + 8), 64]),
          entry('blk.0.attn_kv_a_mqa.weight', [rank + 8, 64]),
          entry('blk.0.attn_kv_a_norm.weight', [rank]),
          entry('blk.0.attn_output.weight', [64, heads * valueDim]),
          entry('blk.0.attn_kv_b.weight', [heads * (plainDim + valueDim), rank], type),
        ]),
      });
      const { latent, ropeDims } = readLatent('test', tensors, ggufNames, heads, [0]);
      expect({ ...latent, ropeDims }).toMatchObject({ rank, plainDim, valueDim, queryRank: null, ropeDims: 8 });
      const read = async (name: string, count: number): Promise<{ type: WeightType; values: Float32Array }> => {
        const { type: own, getSlab } = tensors.get(name);
        return { type: own, values: getWeightFormat(own).dequantizeFile(await getSlab(0, 1).assemble!([]), count) };
      };
      const keys = await read('blk.0.attn_k_b.weight', heads * rank * plainDim);
      const kept = await read('blk.0.attn_v_b.weight', heads * valueDim * rank);
      expect([keys.type, kept.type]).toEqual(['f32', type]);
      const at = (head: number, row: number, i: number): number =>
        values[(head * (plainDim + valueDim) + row) * rank + i]!;
      for (let head = 0; head < heads; head++) {
        for (let i = 0; i < rank; i++) {
          for (let dim = 0; dim < plainDim; dim++) {
            expect(keys.values[(head * rank + i) * plainDim + dim]).toBe(at(head, dim, i));
          }
          for (let dim = 0; dim < valueDim; dim++) {
            expect(kept.values[(head * valueDim + dim) * rank + i]).toBe(at(head, plainDim + dim, i));
          }
        }
      }
    }
  });
});

describe('MXFP4 in two tensors', () => {
  const VALUES = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6];

  it('becomes the blocks of a GGUF file, gate from the even rows and up from the odd ones', async () => {
    // One row of two: experts 5, hidden 64, width 32.
    const [golden] = await loadSafetensors('gpt_oss');
    const bytes = golden!.folder.get('model.safetensors')!;
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
    const name = 'model.layers.1.mlp.experts.gate_up_proj';
    const kept = Object.entries(header as Record<string, { dtype: string; shape: number[]; data_offsets: number[] }>)
      .filter(([own]) => own !== '__metadata__' && own !== name)
      .map(
        ([
          own,
          {
            dtype,
            shape,
            data_offsets: [start = 0, end = 0],
          },
        ]) => {
          return { name: own, dtype, shape, data: bytes.subarray(8 + length + start, 8 + length + end) };
        },
      );
    const nibbles = Uint8Array.from({ length: 5 * 64 * 2 * 16 }, (_, i) => (i * 37 + (i >> 4)) & 255);
    const exponents = Uint8Array.from({ length: 5 * 64 * 2 }, (_, i) => 120 + (i % 9));
    const tensors = [
      ...kept,
      { name: `${name}_blocks`, dtype: 'U8', shape: [5, 64, 2, 16], data: nibbles },
      { name: `${name}_scales`, dtype: 'U8', shape: [5, 64, 2], data: exponents },
    ];
    const folder = new Map<string, Uint8Array>(golden!.folder).set('model.safetensors', writeSafetensors(tensors));
    const checkpoint = await readCheckpoint(openFolder(folder));
    for (const [which, part] of ['gate', 'up'].entries()) {
      const entry = checkpoint.tensors.get(`blk.1.ffn_${part}_exps.weight`)!;
      expect([entry.type, entry.shape]).toEqual(['mxfp4', [5, 32, 64]]);
      const { ranges, assemble } = entry.getSlab(3, 5);
      const read = await Promise.all(
        ranges.map((range) => checkpoint.source.read(range.offsetBytes, range.lengthBytes)),
      );
      const values = getWeightFormat('mxfp4').dequantizeFile(await assemble!(read), 32 * 64);
      const expected = Array.from({ length: 32 * 64 }, (_, i) => {
        const [row, col] = [2 * (i >> 6) + which, i & 63];
        const group = (3 * 64 + row) * 2 + (col >> 5);
        const byte = nibbles[group * 16 + ((col & 31) >> 1)]!;
        return VALUES[(byte >> (4 * (col & 1))) & 15]! * 2 ** (exponents[group]! - 127);
      });
      expect([...values]).toEqual(expected.map((value) => value + 0));
    }
    const layout = buildInstallPlan(checkpoint).pageLayouts[1]!;
    expect([layout.gateProj?.type, layout.downProj.type]).toEqual(['mxfp4', 'f32']);
    const [page] = buildInstallPlan(checkpoint).records.filter(({ key }) => key === 'page/1/3');
    // Blocks and scales once for gate and up, then down, and three vectors of which two share a tensor.
    expect(page!.sourceRanges.length).toBe(5);

    const odd = tensors.map((tensor) => (tensor.name.endsWith('_scales') ? { ...tensor, shape: [5, 128, 1] } : tensor));
    const broken = new Map<string, Uint8Array>(folder).set('model.safetensors', writeSafetensors(odd));
    await expect(readCheckpoint(openFolder(broken))).rejects.toMatchObject({
      code: 'BAD_FILE',
      message: expect.stringMatching(/U8 \[experts, rows, groups, 16\] and U8 \[experts, rows, groups\] are needed/),
    });
    const half = tensors.filter((tensor) => !tensor.name.endsWith('_scales'));
    const missing = new Map<string, Uint8Array>(folder).set('model.safetensors', writeSafetensors(half));
    await expect(readCheckpoint(openFolder(missing))).rejects.toMatchObject({
      code: 'BAD_FILE',
      message: expect.stringMatching(/gate_up_proj_scales" is missing/),
    });
  });
});
