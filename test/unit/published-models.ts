/**
 * Published checkpoints as ModelConfig, from their config.json files, and manifests of what an install of them would keep.
 * Owns sizes only: no weights exist, so nothing can be read.
 */
import { getWeightFormat } from '../../src/checkpoint/formats';
import { roundUp } from '../../src/checkpoint/formats/weight-format';
import {
  getTensorKey,
  type ModelManifest,
  PAGE_PARTS,
  type PackedMatrix,
  type PageLayout,
  type PagePart,
} from '../../src/checkpoint/manifest';
import { type ModelConfig, plainRouter, type WeightType } from '../../src/checkpoint/model-config';
import { getExpertShapes, isMatrixRole, listResidentTensors } from '../../src/checkpoint/resident-tensors';
import { createAttention, createMoe } from '../plain-config';

interface PublishedModel {
  readonly name: string;
  readonly config: ModelConfig;
  /** Types of the experts, and of the other matrices. */
  readonly types: readonly [experts: WeightType, others: WeightType];
}

/** [layers, hidden, vocabulary, context], [heads, key heads, head size], [experts, chosen, width] */
type Sizes = readonly [
  model: readonly [number, number, number, number],
  heads: readonly [number, number, number],
  experts: readonly [number, number, number],
];

interface Extras {
  readonly attention?: Partial<ModelConfig['attention']>;
  readonly moe?: Partial<ModelConfig['moe']>;
  readonly model?: Partial<ModelConfig>;
  /** Dense layers before the others, and their width. */
  readonly dense?: readonly [layers: number, width: number];
  readonly types?: PublishedModel['types'];
}

function create(
  architecture: string,
  name: string,
  [model, attention, moe]: Sizes,
  extras: Extras = {},
): PublishedModel {
  const [layers, hiddenSize, vocabSize, contextLength] = model;
  const [heads, kvHeads, headDim] = attention;
  const [experts, expertsPerToken, expertWidth] = moe;
  const all = Array.from({ length: layers }, (_, layer) => layer);
  const config: ModelConfig = {
    architecture,
    layers,
    hiddenSize,
    vocabSize,
    contextLength,
    norm: { kind: 'rms', epsilon: 1e-5 },
    embeddingScale: 1,
    residualScale: 1,
    logitScale: 1,
    tiedHead: false,
    headBias: false,
    mixers: all.map(() => 'full'),
    convolution: null,
    attention: createAttention({ heads, kvHeads, headDim, ...extras.attention }),
    moe: createMoe({ experts, expertsPerToken, expertWidth, ...extras.moe }),
    moeLayers: all.slice(extras.dense?.[0] ?? 0),
    denseWidth: extras.dense?.[1] ?? null,
    ...extras.model,
  };
  return { name, config, types: extras.types ?? ['q4_0', 'q4_0'] };
}

const biased = { qkvBias: true } as const;
const corrected = { ...plainRouter, choiceBias: true };

export const publishedModels: readonly PublishedModel[] = [
  create(
    'olmoe',
    'OLMoE-1B-7B',
    [
      [16, 2048, 50_304, 4096],
      [16, 16, 128],
      [64, 8, 1024],
    ],
    {
      attention: { qkNorm: 'full' },
    },
  ),
  create(
    'qwen2moe',
    'Qwen1.5-MoE-A2.7B',
    [
      [24, 2048, 151_936, 8192],
      [16, 16, 128],
      [60, 4, 1408],
    ],
    {
      attention: biased,
      moe: { shared: { width: 5632, isGated: true } },
    },
  ),
  create(
    'qwen3moe',
    'Qwen3-30B-A3B',
    [
      [48, 2048, 151_936, 40_960],
      [32, 4, 128],
      [128, 8, 768],
    ],
    {
      attention: { qkNorm: 'head' },
    },
  ),
  create('llama', 'Mixtral-8x7B', [
    [32, 4096, 32_000, 32_768],
    [32, 8, 128],
    [8, 2, 14_336],
  ]),
  create(
    'gpt-oss',
    'gpt-oss-20b',
    [
      [24, 2880, 201_088, 131_072],
      [64, 8, 64],
      [32, 4, 2880],
    ],
    {
      attention: { ...biased, outputBias: true, hasSinks: true, window: 128 },
      moe: { expertBias: true, router: { ...plainRouter, logitBias: true } },
      model: { mixers: Array.from({ length: 24 }, (_, layer) => (layer % 2 === 0 ? 'sliding' : 'full')) },
      types: ['mxfp4', 'bf16'],
    },
  ),
  create(
    'granitemoe',
    'Granite-3.1-3b-a800m',
    [
      [32, 1536, 49_155, 131_072],
      [24, 8, 64],
      [40, 8, 512],
    ],
    {
      model: { tiedHead: true },
    },
  ),
  create(
    'phimoe',
    'Phi-3.5-MoE',
    [
      [32, 4096, 32_064, 131_072],
      [32, 8, 128],
      [16, 2, 6400],
    ],
    {
      attention: { ...biased, outputBias: true },
      model: { norm: { kind: 'layer', epsilon: 1e-5 }, headBias: true },
    },
  ),
  create(
    'deepseek2',
    'DeepSeek-V2-Lite',
    [
      [27, 2048, 102_400, 163_840],
      [16, 1, 576],
      [64, 6, 1408],
    ],
    {
      attention: {
        rope: { theta: 1e4, dims: 64, pairing: 'interleaved', scaling: null },
        latent: { rank: 512, plainDim: 128, valueDim: 128, queryRank: null, epsilon: 1e-6 },
      },
      moe: { shared: { width: 2816, isGated: false } },
      dense: [1, 10_944],
    },
  ),
  create(
    'lfm2moe',
    'LFM2-8B-A1B',
    [
      [24, 2048, 65_536, 128_000],
      [32, 8, 64],
      [32, 4, 1792],
    ],
    {
      attention: { qkNorm: 'head' },
      moe: { router: corrected },
      model: {
        tiedHead: true,
        convolution: { taps: 3, hasBias: false },
        mixers: Array.from({ length: 24 }, (_, layer) =>
          [2, 6, 10, 14, 18, 21].includes(layer) ? 'full' : 'convolution',
        ),
      },
      dense: [2, 7168],
    },
  ),
  create(
    'ernie4_5-moe',
    'ERNIE-4.5-21B-A3B',
    [
      [28, 2560, 103_424, 131_072],
      [20, 4, 128],
      [64, 6, 1536],
    ],
    {
      moe: { shared: { width: 3072, isGated: false }, router: corrected },
      model: { tiedHead: true },
      dense: [1, 12_288],
    },
  ),
  create(
    'glm4moe',
    'GLM-4.5-Air',
    [
      [46, 4096, 151_552, 131_072],
      [96, 8, 128],
      [128, 8, 1408],
    ],
    {
      attention: biased,
      moe: { shared: { width: 1408, isGated: false }, router: corrected },
      dense: [1, 10_944],
    },
  ),
  create(
    'hunyuan-moe',
    'Hunyuan-A13B',
    [
      [32, 4096, 128_167, 32_768],
      [32, 8, 128],
      [64, 8, 3072],
    ],
    {
      attention: { qkNorm: 'head-after-rope' },
      moe: { shared: { width: 3072, isGated: false } },
      model: { tiedHead: true },
    },
  ),
];

export function describeManifest({ name, config, types }: PublishedModel): ModelManifest {
  const [expertType, otherType] = types;
  const pack = (type: WeightType, shape: readonly number[], isMatrix: boolean, offsetBytes: number): PackedMatrix => {
    const cols = isMatrix || shape.length > 1 ? (shape.at(-1) as number) : roundUp(shape.at(-1) as number, 4);
    const rows = shape.length > 1 ? (shape[0] as number) : 1;
    const own = isMatrix ? type : 'f32';
    const sizeBytes = isMatrix ? getWeightFormat(own).getPackedBytes(rows, cols) : rows * cols * 4;
    return { type: own, rows, cols, offsetBytes, sizeBytes };
  };
  const parts: Partial<Record<PagePart, PackedMatrix>> = {};
  let pageBytes = 0;
  for (const part of PAGE_PARTS) {
    const shape = getExpertShapes(config)[part];
    if (!shape) continue;
    const matrix = pack(expertType, shape, shape.length > 1, pageBytes);
    parts[part] = matrix;
    pageBytes += matrix.sizeBytes;
  }
  const page = { factorProj: null, gateBias: null, upBias: null, downBias: null, ...parts, pageBytes } as PageLayout;
  return {
    format: 4,
    modelId: name,
    name,
    sourceBytes: 0,
    config,
    tokenizer: {} as ModelManifest['tokenizer'],
    resident: listResidentTensors(config).map(({ role, layer, shape }) => ({
      role,
      layer,
      key: getTensorKey(role, layer),
      matrix: pack(otherType, shape, isMatrixRole(role), 0),
    })),
    pageLayouts: config.moeLayers.map(() => page),
    digests: {},
  };
}
