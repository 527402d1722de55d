/**
 * The tensors that always live on the GPU: which buffers hold them, and how they get there.
 * Matrices that a kernel reads together are joined, ones larger than a binding are split by rows; both in kernel layout.
 */
import { getWeightFormat } from '../checkpoint/formats';
import { getPlaneOffsets, LAYOUT_ALIGNMENT_BYTES, UNIT_WEIGHTS } from '../checkpoint/formats/weight-format';
import type { ModelManifest, ResidentRole, ResidentTensor } from '../checkpoint/manifest';
import { getRound, type WeightType } from '../checkpoint/model-config';
import { assert, EngineError } from '../errors';
import type { GpuDevice } from '../gpu/device';
import { type BufferRequest, type DeviceBuffer, roundUp } from '../gpu/memory';

/** Rows of one tensor. */
interface RowRange {
  readonly tensor: ResidentTensor;
  readonly firstRow: number;
  readonly rows: number;
}

/** One buffer: rows of one or more tensors of the same type, as one matrix in kernel layout. */
export interface MatrixPlan {
  readonly label: string;
  readonly type: WeightType;
  readonly rows: number;
  readonly cols: number;
  /** First row within the whole that a split or unjoined matrix belongs to. */
  readonly firstRow: number;
  readonly sizeBytes: number;
  readonly sources: readonly RowRange[];
}

/** A dense MLP: a layer's own, or the expert that all tokens share. */
export interface MlpWeightPlan {
  readonly gateUp: MatrixPlan; // [2 * width, hidden]: gate, then up
  /** What their product is multiplied with; null: nothing. */
  readonly factor: MatrixPlan | null; // [width, hidden]
  readonly down: MatrixPlan; // [hidden, width]
  /** Times the sigmoid of its product with the input; null: as it is. */
  readonly scale: MatrixPlan | null; // [1, hidden] f32
}

/** Of latent attention: what stands between the projections, the cache and the output. */
export interface LatentWeightPlan {
  readonly queryDown: MatrixPlan | null; // [queryRank, hidden]
  readonly queryNorm: MatrixPlan | null; // [queryRank] f32
  readonly queryUp: MatrixPlan | null; // [heads * (plainDim + rope dims), queryRank]
  readonly kvNorm: MatrixPlan; // [rank] f32
  readonly keyUp: MatrixPlan; // [heads, rank, plainDim]
  readonly valueUp: MatrixPlan; // [heads, valueDim, rank]
}

/** Of a convolution; its products are `qkv` and `oProj`. */
export interface ConvolutionWeightPlan {
  readonly taps: MatrixPlan; // [hidden, taps] f32
  readonly bias: MatrixPlan | null; // [hidden] f32
}

export interface LayerWeightPlan {
  /** Of a LayerNorm the weights, then the biases; so with every norm. Null, as `oProj`: the layer mixes nothing. */
  readonly attnNorm: MatrixPlan | null; // [1 or 2, hidden] f32
  /**
   * What the mixer makes of x: q, k and v joined where their types agree and each ends on whole words, else one by one; q (where
   * it is made of x) and the latent; or a convolution's.
   */
  readonly qkv: readonly MatrixPlan[]; // [(heads + 2 kvHeads) * headDim, hidden]
  readonly qkvBias: MatrixPlan | null; // [(heads + 2 kvHeads) * headDim] f32
  /** q's and k's norm weights, joined; null without a norm. */
  readonly qkNorms: MatrixPlan | null;
  readonly sinks: MatrixPlan | null; // [heads] f32
  readonly latent: LatentWeightPlan | null;
  readonly convolution: ConvolutionWeightPlan | null;
  readonly oProj: MatrixPlan | null; // [hidden, heads * headDim]
  readonly oBias: MatrixPlan | null; // [hidden] f32
  /** ffn norm; in a layer with experts then the router (null experts behind), its bias, the choice's and the scores' norm. */
  readonly gate: MatrixPlan; // [1 or 2 + experts and null experts, hidden] f32, and [experts] each
  /** Of a recurrent router: the ffn norm, and what its cell reads. */
  readonly routerInput: MatrixPlan | null; // [1 or 2 + state width, hidden] f32
  readonly mlp: MlpWeightPlan | null;
}

/** Of a layer that mixes positions. */
export type MixingWeightPlan = LayerWeightPlan & { readonly oProj: MatrixPlan };

export function isMixing(plan: LayerWeightPlan): plan is MixingWeightPlan {
  return plan.oProj !== null;
}

export interface WeightPlan {
  readonly embedding: readonly MatrixPlan[]; // [vocab, hidden], split
  readonly head: readonly MatrixPlan[]; // [vocab, hidden], split; the embedding's own where tied
  readonly headBias: MatrixPlan | null; // [vocab] f32
  readonly outputNorm: MatrixPlan; // [1 or 2, hidden] f32
  /** GRU of a recurrent router; see shaders/router_state.wgsl. */
  readonly routerCell: MatrixPlan | null;
  readonly layers: readonly LayerWeightPlan[];
}

const NO_MIXER = {
  attnNorm: null,
  qkv: [],
  qkvBias: null,
  qkNorms: null,
  sinks: null,
  latent: null,
  convolution: null,
  oProj: null,
  oBias: null,
} as const;

const GATE = ['ffnNorm', 'ffnNormBias', 'router', 'nullRouter', 'routerBias', 'choiceBias', 'scoreNorm'] as const;

/** @param bindingBytes largest size of a buffer: the device's limit on a storage binding. */
export function planWeights(manifest: ModelManifest, bindingBytes: number): WeightPlan {
  const tensors = new Map(manifest.resident.map((tensor) => [`${tensor.layer}/${tensor.role}`, tensor]));
  const find = (role: ResidentRole, layer: number | null): ResidentTensor | undefined =>
    tensors.get(`${layer}/${role}`);
  const get = (role: ResidentRole, layer: number | null): ResidentTensor => {
    const tensor = find(role, layer);
    assert(tensor, `the manifest has ${role} of layer ${layer}`);
    return tensor;
  };
  const join = (label: string, list: readonly ResidentTensor[], firstRow = 0): MatrixPlan =>
    createMatrixPlan(
      label,
      list.map((tensor) => ({ tensor, firstRow: 0, rows: tensor.matrix.rows })),
      firstRow,
      bindingBytes,
    );

  const joinFound = (label: string, layer: number | null, roles: readonly ResidentRole[]): MatrixPlan | null => {
    const found = roles.flatMap((role) => find(role, layer) ?? []);
    return found.length > 0 ? join(label, found) : null;
  };
  const joinAll = (label: string, layer: number | null, roles: readonly ResidentRole[]): MatrixPlan => {
    const matrix = joinFound(label, layer, roles);
    assert(matrix, `the manifest has ${roles[0]} of layer ${layer}`);
    return matrix;
  };
  const planMlp = (layer: number): MlpWeightPlan | null => {
    const isShared = find('sharedDown', layer) !== undefined;
    const roles = isShared
      ? (['sharedGate', 'sharedUp', 'sharedDown'] as const)
      : (['mlpGate', 'mlpUp', 'mlpDown'] as const);
    if (!find(roles[2], layer)) return null;
    const [gate, up, down] = roles.map((role) => get(role, layer)) as [ResidentTensor, ResidentTensor, ResidentTensor];
    requireSameType(gate, up);
    return {
      gateUp: join(`mlp gate and up ${layer}`, [gate, up]),
      factor: isShared ? null : joinFound(`mlp factor ${layer}`, layer, ['mlpFactor']),
      down: join(`mlp down ${layer}`, [down]),
      scale: joinFound(`shared expert scale ${layer}`, layer, ['sharedScale']),
    };
  };

  /** Joined where types agree and each ends on whole words, else one by one. */
  const joinRows = (label: string, list: readonly ResidentTensor[], firstRow = 0): MatrixPlan[] => {
    const isAlike = list.every(({ matrix }) => matrix.type === list[0]?.matrix.type);
    if (isAlike && endOnWords(list.slice(0, -1))) return [join(label, list, firstRow)];
    let row = firstRow;
    return list.map((tensor) => {
      const part = join(`${label}, ${tensor.role}`, [tensor], row);
      row += tensor.matrix.rows;
      return part;
    });
  };
  const planProjections = (layer: number): MatrixPlan[] => {
    if (!find('attnNorm', layer)) return [];
    if (find('convIn', layer)) return [join(`convolution input ${layer}`, [get('convIn', layer)])];
    const q = get('qProj', layer);
    if (!find('kvDown', layer)) return joinRows(`qkv ${layer}`, [q, get('kProj', layer), get('vProj', layer)]);
    const latent = get('kvDown', layer);
    return find('queryDown', layer)
      ? [join(`latent ${layer}`, [latent], q.matrix.rows)]
      : joinRows(`q and latent ${layer}`, [q, latent]);
  };
  const planLatent = (layer: number): LatentWeightPlan => {
    const down = find('queryDown', layer);
    return {
      queryDown: down ? join(`query latent ${layer}`, [down]) : null,
      queryNorm: joinFound(`query latent norm ${layer}`, layer, ['queryNorm']),
      queryUp: down ? join(`queries ${layer}`, [get('qProj', layer)]) : null,
      kvNorm: joinAll(`latent norm ${layer}`, layer, ['kvNorm']),
      keyUp: join(`keys of heads ${layer}`, [get('keyUp', layer)]),
      valueUp: join(`values of heads ${layer}`, [get('valueUp', layer)]),
    };
  };

  const planLayer = (layer: number): LayerWeightPlan => {
    const isConvolution = find('convIn', layer) !== undefined;
    return {
      attnNorm: joinFound(`attention norm ${layer}`, layer, ['attnNorm', 'attnNormBias']),
      qkv: planProjections(layer),
      qkvBias: joinFound(`qkv bias ${layer}`, layer, isConvolution ? ['convInBias'] : ['qBias', 'kBias', 'vBias']),
      qkNorms: joinFound(`qk norms ${layer}`, layer, ['qNorm', 'kNorm']),
      sinks: joinFound(`sinks ${layer}`, layer, ['sinks']),
      latent: find('kvDown', layer) ? planLatent(layer) : null,
      convolution: isConvolution
        ? {
            taps: joinAll(`convolution ${layer}`, layer, ['convTaps']),
            bias: joinFound(`convolution bias ${layer}`, layer, ['convBias']),
          }
        : null,
      oProj: joinFound(`mixer output ${layer}`, layer, [isConvolution ? 'convOut' : 'oProj']),
      oBias: joinFound(`mixer output bias ${layer}`, layer, [isConvolution ? 'convOutBias' : 'oBias']),
      gate: joinAll(`gate ${layer}`, layer, GATE),
      routerInput: find('routerInput', layer)
        ? joinAll(`router input ${layer}`, layer, ['ffnNorm', 'ffnNormBias', 'routerInput'])
        : null,
      mlp: planMlp(layer),
    };
  };
  /** A later round over a layer's experts. */
  const planRound = (layer: number, firstLayer: number, { gate, mlp }: LayerWeightPlan): LayerWeightPlan => ({
    ...NO_MIXER,
    gate: find('router', layer) ? join(`gate ${layer}`, [get('ffnNorm', firstLayer), get('router', layer)]) : gate,
    routerInput: null,
    mlp,
  });
  const { config } = manifest;
  const layers: LayerWeightPlan[] = [];
  for (let layer = 0; layer < config.layers; layer++) {
    const firstLayer = layer - getRound(config.moe, layer);
    const first = layers[firstLayer];
    layers.push(first ? planRound(layer, firstLayer, first) : planLayer(layer));
  }

  const embedding = splitByRows('embedding', get('embedding', null), bindingBytes);
  const ownHead = find('head', null);
  return {
    embedding,
    head: ownHead ? splitByRows('head', ownHead, bindingBytes) : embedding,
    headBias: joinFound('head bias', null, ['headBias']),
    outputNorm: joinAll('output norm', null, ['outputNorm', 'outputNormBias']),
    routerCell: joinFound('router cell', null, ['cellInput', 'cellState', 'cellInputBias', 'cellStateBias']),
    layers,
  };
}
/** Every buffer of a plan once, in a fixed order. */
export function listMatrices(plan: WeightPlan): MatrixPlan[] {
  const all = [
    ...plan.embedding,
    ...plan.head,
    plan.headBias,
    plan.outputNorm,
    plan.routerCell,
    ...plan.layers.flatMap(listLayerMatrices),
  ];
  return [...new Set(all)].filter((matrix) => matrix !== null);
}

/** Of one layer; rounds of one layer share some. */
export function listLayerMatrices({ qkv, mlp, latent, convolution, ...layer }: LayerWeightPlan): MatrixPlan[] {
  const all: readonly (MatrixPlan | null)[] = [
    ...qkv,
    ...Object.values(layer),
    ...Object.values(latent ?? {}),
    ...Object.values(convolution ?? {}),
    ...Object.values(mlp ?? {}),
  ];
  return all.filter((matrix) => matrix !== null);
}

export function getWeightRequests(plan: WeightPlan): BufferRequest[] {
  return listMatrices(plan).map(({ label, sizeBytes }) => ({ label, sizeBytes, kind: 'storage' }));
}

/**
 * Reads the records and fills the buffers.
 * @param buffers as asked for by `getWeightRequests`, in that order.
 */
export async function loadWeights(
  device: GpuDevice,
  plan: WeightPlan,
  buffers: readonly DeviceBuffer[],
  readRecord: (key: string) => Promise<Uint8Array>,
  onBytes: (bytes: number) => void,
): Promise<Weights> {
  const bufferOf = new Map<MatrixPlan, DeviceBuffer>();
  const last = { key: '', bytes: new Uint8Array() };
  for (const [i, matrix] of listMatrices(plan).entries()) {
    const buffer = buffers[i] as DeviceBuffer;
    bufferOf.set(matrix, buffer);
    const at = getPlaneStarts(matrix.sources);
    for (const source of matrix.sources) {
      const { key } = source.tensor;
      // A split matrix comes several times in a row.
      if (last.key !== key) Object.assign(last, { key, bytes: await readRecord(key) });
      for (const [plane, bytes] of slicePlanes(source, last.bytes).entries()) {
        at[plane] = writeAt(device, buffer, at[plane] as number, bytes);
      }
    }
    onBytes(matrix.sizeBytes);
  }
  return { plan, getBuffer: (matrix) => bufferOf.get(matrix) as DeviceBuffer };
}

export interface Weights {
  readonly plan: WeightPlan;
  getBuffer(matrix: MatrixPlan): DeviceBuffer;
}

function requireSameType(a: ResidentTensor, b: ResidentTensor): void {
  if (a.matrix.type === b.matrix.type) return;
  throw new EngineError(
    'UNSUPPORTED',
    `${a.key} is ${a.matrix.type}, ${b.key} is ${b.matrix.type}: the two are read together and need one type`,
  );
}

function splitByRows(label: string, tensor: ResidentTensor, bindingBytes: number): MatrixPlan[] {
  const { rows, cols, type } = tensor.matrix;
  const planes = getWeightFormat(type).planeBytesPer32;
  const rowBytes = (cols / UNIT_WEIGHTS) * planes.reduce((sum, bytes) => sum + bytes, 0);
  // Multiples of 8 rows keep every part's planes at whole words; each plane is padded.
  const perPart = Math.floor((bindingBytes - planes.length * LAYOUT_ALIGNMENT_BYTES) / rowBytes / 8) * 8;
  if (perPart < 8) throw tooLarge(label, rowBytes * 8, bindingBytes);
  const parts: MatrixPlan[] = [];
  for (let firstRow = 0; firstRow < rows; firstRow += perPart) {
    const range = { tensor, firstRow, rows: Math.min(perPart, rows - firstRow) };
    parts.push({ label, type, cols, rows: range.rows, firstRow, sizeBytes: getMatrixBytes([range]), sources: [range] });
  }
  return parts;
}

function createMatrixPlan(
  label: string,
  sources: readonly RowRange[],
  firstRow: number,
  bindingBytes: number,
): MatrixPlan {
  const { type, cols } = (sources[0] as RowRange).tensor.matrix;
  const sizeBytes = getMatrixBytes(sources);
  if (sizeBytes > bindingBytes) throw tooLarge(label, sizeBytes, bindingBytes);
  return {
    label,
    type,
    cols,
    rows: sources.reduce((sum, source) => sum + source.rows, 0),
    firstRow,
    sizeBytes,
    sources,
  };
}

function tooLarge(label: string, sizeBytes: number, bindingBytes: number): EngineError {
  return new EngineError(
    'UNSUPPORTED',
    `${label} needs a GPU binding of ${sizeBytes} bytes, this adapter allows ${bindingBytes}: use a smaller quantisation or another GPU`,
  );
}

/** Bytes of the rows in each plane. */
function getPlaneBytes({ tensor: { matrix }, rows }: RowRange): number[] {
  const units = (rows * matrix.cols) / UNIT_WEIGHTS;
  return getWeightFormat(matrix.type).planeBytesPer32.map((bytes) => units * bytes);
}

/** Where each plane of the joined rows starts, and the end of the last. */
function getPlaneStarts(sources: readonly RowRange[]): number[] {
  const starts = [0];
  const planes = sources.map(getPlaneBytes);
  for (const plane of planes[0]?.keys() ?? []) {
    const bytes = planes.reduce((sum, one) => sum + (one[plane] as number), 0);
    starts.push((starts.at(-1) as number) + roundUp(bytes));
  }
  return starts;
}

function getMatrixBytes(sources: readonly RowRange[]): number {
  return getPlaneStarts(sources).at(-1) as number;
}

/** Whether rows of another tensor can follow in every plane: queue writes begin at whole words. */
function endOnWords(tensors: readonly ResidentTensor[]): boolean {
  return tensors.every((tensor) =>
    getPlaneBytes({ tensor, firstRow: 0, rows: tensor.matrix.rows }).every((bytes) => bytes % 4 === 0),
  );
}

/** The rows' bytes in each plane of a packed tensor. */
function slicePlanes({ tensor, firstRow, rows }: RowRange, packed: Uint8Array): Uint8Array[] {
  const { rows: allRows, cols, type } = tensor.matrix;
  const format = getWeightFormat(type);
  const starts = getPlaneOffsets(format, allRows, cols);
  const units = cols / UNIT_WEIGHTS;
  return format.planeBytesPer32.map((bytes, plane) => {
    const start = (starts[plane] as number) + firstRow * units * bytes;
    return packed.subarray(start, start + rows * units * bytes);
  });
}

/** Writes bytes that need not be a multiple of 4: queue writes must be, so the last word is padded with zeros. */
function writeAt(device: GpuDevice, buffer: DeviceBuffer, offsetBytes: number, bytes: Uint8Array): number {
  if (bytes.byteLength === 0) return offsetBytes;
  assert(offsetBytes % 4 === 0, `rows joined into ${buffer.label} end at whole words`);
  const padded = bytes.byteLength % 4 === 0 ? bytes : new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
  if (padded !== bytes) padded.set(bytes);
  device.handle.queue.writeBuffer(buffer, offsetBytes, padded as BufferSource as Uint8Array<ArrayBuffer>);
  return offsetBytes + bytes.byteLength;
}
