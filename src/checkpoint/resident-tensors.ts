/**
 * Which tensors a model has, and their shapes: what its configuration says, and no file.
 * Owns the shapes; names are the sources' business.
 */
import type { PagePart, ResidentRole } from './manifest';
import { type ConvolutionConfig, getRound, type LatentConfig, type ModelConfig } from './model-config';

export interface ResidentShape {
  readonly role: ResidentRole;
  /** Layer index, or null for tensors outside the layers. */
  readonly layer: number | null;
  /** Outermost first. */
  readonly shape: readonly number[];
}

/** Roles that keep the type of the file; kernels read all others as f32. */
const matrixRoles: ReadonlySet<ResidentRole> = new Set<ResidentRole>([
  'embedding',
  'qProj',
  'kProj',
  'vProj',
  'oProj',
  'queryDown',
  'kvDown',
  'keyUp',
  'valueUp',
  'convIn',
  'convOut',
  'mlpGate',
  'mlpUp',
  'mlpFactor',
  'mlpDown',
  'sharedGate',
  'sharedUp',
  'sharedDown',
  'head',
]);

export function isMatrixRole(role: ResidentRole): boolean {
  return matrixRoles.has(role);
}

/** Every resident tensor of a model: first those outside the layers, then layer by layer. */
export function listResidentTensors(config: ModelConfig): ResidentShape[] {
  const { hiddenSize, vocabSize, norm, layers } = config;
  const { rope } = config.attention;
  const { stateWidth: width } = config.moe.router;
  const outside: Shapes = {
    embedding: [vocabSize, hiddenSize],
    outputNorm: [hiddenSize],
    ...(norm.kind === 'layer' && { outputNormBias: [hiddenSize] }),
    ...(!config.tiedHead && { head: [vocabSize, hiddenSize] }),
    ...(config.headBias && { headBias: [vocabSize] }),
    ...(width !== null && {
      cellInput: [3 * width, width],
      cellState: [3 * width, width],
      cellInputBias: [3 * width],
      cellStateBias: [3 * width],
    }),
    ...(rope.scaling?.kind === 'longrope' && { ropeFactors: [rope.dims / 2] }),
  };
  return [
    ...toList(null, outside),
    ...Array.from({ length: layers }, (_, layer) => toList(layer, getLayerShapes(config, layer))).flat(),
  ];
}

/** One expert's matrices and vectors. */
export function getExpertShapes({ moe, hiddenSize }: ModelConfig): Partial<Record<PagePart, readonly number[]>> {
  const { expertWidth, expertBias, isGated, hasFactor } = moe;
  return {
    ...(isGated && { gateProj: [expertWidth, hiddenSize] }),
    upProj: [expertWidth, hiddenSize],
    ...(hasFactor && { factorProj: [expertWidth, hiddenSize] }),
    downProj: [hiddenSize, expertWidth],
    ...(expertBias && { gateBias: [expertWidth], upBias: [expertWidth], downBias: [hiddenSize] }),
  };
}

type Shapes = Partial<Record<ResidentRole, readonly number[]>>;

function toList(layer: number | null, shapes: Shapes): ResidentShape[] {
  return (Object.entries(shapes) as [ResidentRole, readonly number[]][]).map(([role, shape]) => ({
    role,
    layer,
    shape,
  }));
}

function getLayerShapes(config: ModelConfig, layer: number): Shapes {
  const { hiddenSize: hidden, norm, moe } = config;
  // A later round has at most a router of its own.
  if (getRound(moe, layer) > 0) return moe.rounds?.hasOwnRouters ? { router: [moe.experts, hidden] } : {};
  const mixer = {
    attnNorm: [hidden],
    ...(norm.kind === 'layer' && { attnNormBias: [hidden] }),
    ...getMixerShapes(config, layer),
  };
  return {
    ...(config.mixers[layer] !== 'none' && mixer),
    ffnNorm: [hidden],
    ...(norm.kind === 'layer' && { ffnNormBias: [hidden] }),
    ...(config.moeLayers.includes(layer) ? getMoeShapes(config) : getMlpShapes(config, config.denseWidth ?? 0)),
  };
}

function getMixerShapes(config: ModelConfig, layer: number): Shapes {
  const { convolution, attention } = config;
  if (convolution && config.mixers[layer] === 'convolution')
    return getConvolutionShapes(config.hiddenSize, convolution);
  return attention.latent ? getLatentShapes(config, attention.latent) : getAttentionShapes(config);
}

function getConvolutionShapes(hidden: number, { taps, hasBias }: ConvolutionConfig): Shapes {
  return {
    convIn: [3 * hidden, hidden],
    convTaps: [hidden * taps],
    convOut: [hidden, hidden],
    ...(hasBias && { convInBias: [3 * hidden], convBias: [hidden], convOutBias: [hidden] }),
  };
}

function getLatentShapes({ hiddenSize: hidden, attention }: ModelConfig, latent: LatentConfig): Shapes {
  const { heads, rope } = attention;
  const { rank, plainDim, valueDim, queryRank } = latent;
  return {
    ...(queryRank !== null && { queryDown: [queryRank, hidden], queryNorm: [queryRank] }),
    qProj: [heads * (plainDim + rope.dims), queryRank ?? hidden],
    kvDown: [rank + rope.dims, hidden],
    kvNorm: [rank],
    keyUp: [heads * rank, plainDim],
    valueUp: [heads * valueDim, rank],
    oProj: [hidden, heads * valueDim],
    ...(attention.outputBias && { oBias: [hidden] }),
  };
}

function getAttentionShapes({ hiddenSize: hidden, attention }: ModelConfig): Shapes {
  const { heads, kvHeads, headDim, qkNorm } = attention;
  const [q, kv] = [heads * headDim, kvHeads * headDim];
  return {
    qProj: [q, hidden],
    kProj: [kv, hidden],
    vProj: [kv, hidden],
    ...(attention.qkvBias && { qBias: [q], kBias: [kv], vBias: [kv] }),
    ...(qkNorm === 'full' && { qNorm: [q], kNorm: [kv] }),
    ...((qkNorm === 'head' || qkNorm === 'head-after-rope') && { qNorm: [headDim], kNorm: [headDim] }),
    ...(attention.hasSinks && { sinks: [heads] }),
    oProj: [hidden, q],
    ...(attention.outputBias && { oBias: [hidden] }),
  };
}

function getMoeShapes({ hiddenSize: hidden, moe }: ModelConfig): Shapes {
  const { experts, router, shared } = moe;
  return {
    ...(router.stateWidth !== null && { routerInput: [router.stateWidth, hidden] }),
    router: [experts, router.stateWidth ?? hidden],
    ...(router.nullExperts > 0 && { nullRouter: [router.nullExperts, hidden] }),
    ...(router.logitBias && { routerBias: [experts] }),
    ...(router.choiceBias && { choiceBias: [experts] }),
    ...(router.scoreNorm !== null && { scoreNorm: [experts] }),
    ...(shared && {
      sharedGate: [shared.width, hidden],
      sharedUp: [shared.width, hidden],
      sharedDown: [hidden, shared.width],
      ...(shared.isGated && { sharedScale: [hidden] }),
    }),
  };
}

function getMlpShapes({ hiddenSize: hidden, moe }: ModelConfig, width: number): Shapes {
  return {
    mlpGate: [width, hidden],
    mlpUp: [width, hidden],
    ...(moe.hasFactor && { mlpFactor: [width, hidden] }),
    mlpDown: [hidden, width],
  };
}
