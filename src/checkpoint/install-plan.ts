/**
 * From a checkpoint to the records that a store keeps: which ranges of the file make which record, and how.
 * Owns page and tensor layouts; reads nothing itself, so that store/ decides how to fetch.
 */
import { assert, EngineError } from '../errors';
import type { ArchitectureReading, ExpertTensors, ResidentSource } from './architecture';
import { readArchitecture } from './architectures';
import type { Checkpoint, SourceRange, TensorEntry, TensorSlab } from './checkpoint';
import { getWeightFormat } from './formats';
import { LAYOUT_ALIGNMENT_BYTES, roundUp, UNIT_WEIGHTS } from './formats/weight-format';
import {
  getPageKey,
  getTensorKey,
  type ModelManifest,
  PAGE_PARTS,
  type PackedMatrix,
  type PageLayout,
  type PagePart,
  type ResidentTensor,
  type TokenizerData,
} from './manifest';
import type { ModelConfig } from './model-config';
import { isMatrixRole } from './resident-tensors';
import { giveTurn, STRETCH_WEIGHTS } from './turns';

export interface InstallRecord {
  readonly key: string;
  /** Size of the packed record. */
  readonly sizeBytes: number;
  /** Ranges whose bytes `pack` takes, in this order. */
  readonly sourceRanges: readonly SourceRange[];
  /**
   * Makes the record from the bytes of its ranges; pure, and keeps none of them. Gives the event loop its turns meanwhile.
   * @throws EngineError `ABORTED` when the signal fires before it is done.
   */
  pack(ranges: readonly Uint8Array[], signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
}

export interface InstallPlan extends Pick<Checkpoint, 'quantization'> {
  readonly modelId: string;
  /** `general.name`, or the file's name. */
  readonly name: string;
  readonly sourceBytes: number;
  readonly config: ModelConfig;
  readonly tokenizer: TokenizerData;
  readonly resident: readonly ResidentTensor[];
  /** By page group. */
  readonly pageLayouts: readonly PageLayout[];
  /**
   * In file order by their first range. A page of a GGUF file has three ranges; consecutive experts of a layer continue
   * each of them, so that reading several pages at a time makes three long ranges.
   */
  readonly records: readonly InstallRecord[];
}

/** Vectors are read as vec4<f32>: they end with zeros up to a multiple of it. */
const VECTOR_UNIT = 4;

/**
 * Plans the installation of a checkpoint.
 * @throws EngineError `BAD_FILE`, `UNSUPPORTED`
 */
export function buildInstallPlan(gguf: Checkpoint): InstallPlan {
  const reading = readArchitecture(gguf);
  const { config } = reading;
  const tokenizer = gguf.readTokenizer(config.vocabSize);
  const resident = reading.resident.map((source) => planResident(gguf, source));
  const pageLayouts = reading.experts.map((tensors) => layOutPage(gguf, tensors));
  const records = [
    ...reading.resident.map((source, i) => buildResidentRecord(source, resident[i] as ResidentTensor)),
    ...pageLayouts.flatMap((layout, group) => buildPageRecords(reading, group, layout)),
  ];
  return {
    modelId: gguf.modelId,
    name: gguf.metadata.getString('general.name', gguf.sourceName),
    sourceBytes: gguf.source.sizeBytes,
    quantization: gguf.quantization,
    config,
    tokenizer,
    resident,
    pageLayouts,
    records: records.sort((a, b) => getStart(a) - getStart(b)),
  };
}

/** The manifest of a plan; `digests` are by record key, and all there once the plan is installed. */
export function buildManifest(
  plan: InstallPlan,
  digests: Readonly<Record<string, string>>,
  modelId: string = plan.modelId,
  name: string = plan.name,
): ModelManifest {
  const { sourceBytes, config, tokenizer, resident, pageLayouts } = plan;
  const manifest = {
    format: 4,
    modelId,
    name,
    sourceBytes,
    config,
    tokenizer,
    resident,
    pageLayouts,
    digests,
  } as const;
  return plan.quantization ? { ...manifest, quantization: plan.quantization.getReport() } : manifest;
}

function getStart(record: InstallRecord): number {
  return record.sourceRanges[0]?.offsetBytes ?? 0;
}

/** Places a matrix of `rows` rows of the tensor's columns at an offset of its record. */
function placeMatrix(gguf: Checkpoint, tensor: TensorEntry, rows: number, offsetBytes: number): PackedMatrix {
  const cols = tensor.shape.at(-1) as number;
  if (cols % UNIT_WEIGHTS !== 0) failColumns(gguf, tensor, cols);
  const sizeBytes = getWeightFormat(tensor.type).getPackedBytes(rows, cols);
  assert(sizeBytes % LAYOUT_ALIGNMENT_BYTES === 0, `${tensor.name} packs to whole 16-byte units`);
  return { type: tensor.type, rows, cols, offsetBytes, sizeBytes };
}

/** Vectors have rows 1. What is no matrix becomes f32, which is exact from f16 and bf16. */
function planResident(gguf: Checkpoint, { role, layer, tensor }: ResidentSource): ResidentTensor {
  const key = getTensorKey(role, layer);
  if (isMatrixRole(role)) {
    return { role, layer, key, matrix: placeMatrix(gguf, tensor, tensor.shape[0] as number, 0) };
  }
  const isVector = tensor.shape.length === 1;
  checkPlain(gguf, tensor);
  if (isVector) return { role, layer, key, matrix: placeVector(tensor, 0) };
  const cols = tensor.shape.at(-1) as number;
  if (cols % UNIT_WEIGHTS !== 0) failColumns(gguf, tensor, cols);
  const rows = tensor.shape[0] as number;
  const sizeBytes = getWeightFormat('f32').getPackedBytes(rows, cols);
  return { role, layer, key, matrix: { type: 'f32', rows, cols, offsetBytes: 0, sizeBytes } };
}

/** A vector in f32, with zeros up to a multiple of its unit. */
function placeVector(tensor: TensorEntry, offsetBytes: number): PackedMatrix {
  const cols = roundUp(tensor.shape.at(-1) as number, VECTOR_UNIT);
  return { type: 'f32', rows: 1, cols, offsetBytes, sizeBytes: cols * 4 };
}

function checkPlain(gguf: Checkpoint, { name, type }: TensorEntry): void {
  if (getWeightFormat(type).blockWeights === 1) return;
  throw new EngineError(
    'UNSUPPORTED',
    `${gguf.sourceName}: tensor "${name}" has type ${type.toUpperCase()}; norms and routers are F32, F16 or BF16, and so are biases`,
  );
}

function failColumns(gguf: Checkpoint, tensor: TensorEntry, cols: number): never {
  throw new EngineError(
    'UNSUPPORTED',
    `${gguf.sourceName}: tensor "${tensor.name}" has ${cols} columns; a multiple of ${UNIT_WEIGHTS} is needed`,
  );
}

function buildResidentRecord({ role, tensor }: ResidentSource, { key, matrix }: ResidentTensor): InstallRecord {
  const { sizeBytes } = matrix;
  const slab = tensor.getSlab(0, 1);
  return {
    key,
    sizeBytes,
    sourceRanges: slab.ranges,
    async pack(ranges, signal) {
      const file = await assembleSlab(slab, ranges, signal);
      const out = new Uint8Array(sizeBytes);
      if (!isMatrixRole(role)) {
        packAsF32(tensor, file, out, 0);
        return out;
      }
      await packMatrix(matrix, file, out, signal);
      return out;
    },
  };
}

/** Moves a matrix to its place in a record, some rows between two turns of the event loop. */
async function packMatrix(
  { type, rows, cols, offsetBytes }: PackedMatrix,
  file: Uint8Array,
  out: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  const stretchRows = Math.max(1, Math.floor(STRETCH_WEIGHTS / cols));
  for (let row = 0; row < rows; row += stretchRows) {
    if (row > 0) await giveTurn(signal);
    const range = { firstRow: row, endRow: Math.min(rows, row + stretchRows) };
    getWeightFormat(type).pack(file, rows, cols, out, offsetBytes, range);
  }
}

/** Widens the weights of a tensor, or of one expert's part of it. */
function packAsF32({ type }: TensorEntry, file: Uint8Array, out: Uint8Array, offsetBytes: number): void {
  const format = getWeightFormat(type);
  const values = format.dequantizeFile(file, (file.byteLength / format.blockBytes) * format.blockWeights);
  out.set(new Uint8Array(values.buffer), offsetBytes);
}

/** One part after another, in the order of PAGE_PARTS. */
function layOutPage(gguf: Checkpoint, tensors: ExpertTensors): PageLayout {
  const placed: Partial<Record<PagePart, PackedMatrix>> = {};
  let pageBytes = 0;
  for (const part of PAGE_PARTS) {
    const tensor = tensors[part];
    if (!tensor) continue;
    const isVector = tensor.shape.length === 2;
    if (isVector) checkPlain(gguf, tensor);
    const matrix = isVector
      ? placeVector(tensor, pageBytes)
      : placeMatrix(gguf, tensor, tensor.shape[1] as number, pageBytes);
    placed[part] = matrix;
    pageBytes += matrix.sizeBytes;
  }
  const {
    gateProj = null,
    upProj,
    factorProj = null,
    downProj,
    gateBias = null,
    upBias = null,
    downBias = null,
  } = placed;
  assert(upProj && downProj, 'an expert has two matrices, or more');
  for (const part of ['gateProj', 'factorProj'] as const) {
    const other = placed[part];
    if (!other || other.type === upProj.type) continue;
    throw new EngineError(
      'UNSUPPORTED',
      `${gguf.sourceName}: tensor "${tensors[part]?.name}" has type ${other.type.toUpperCase()}, "${tensors.upProj?.name}" ` +
        `${upProj.type.toUpperCase()}; the two are read together and need one type`,
    );
  }
  return { gateProj, upProj, factorProj, downProj, gateBias, upBias, downBias, pageBytes };
}

function buildPageRecords(reading: ArchitectureReading, group: number, layout: PageLayout): InstallRecord[] {
  const tensors = reading.experts[group];
  assert(tensors, `page group ${group} has tensors`);
  const { experts } = reading.config.moe;
  const parts = PAGE_PARTS.flatMap((part) => {
    const [tensor, matrix] = [tensors[part], layout[part]];
    return tensor && matrix ? [{ tensor, matrix }] : [];
  });
  return Array.from({ length: experts }, (_, expert) => {
    const slabs = parts.map(({ tensor }) => tensor.getSlab(expert, experts));
    // Two parts of one tensor, in alternate rows or columns, are read once.
    const sourceRanges: SourceRange[] = [];
    const places = slabs.map(({ ranges }) => ranges.map((range) => placeRange(sourceRanges, range)));
    return {
      key: getPageKey(group, expert),
      sizeBytes: layout.pageBytes,
      sourceRanges,
      async pack(ranges, signal) {
        const out = new Uint8Array(layout.pageBytes);
        for (const [i, { tensor, matrix }] of parts.entries()) {
          const bytes = (places[i] as number[]).map((place) => ranges[place] as Uint8Array);
          const file = await assembleSlab(slabs[i] as TensorSlab, bytes, signal);
          if (tensor.shape.length === 2) packAsF32(tensor, file, out, matrix.offsetBytes);
          else await packMatrix(matrix, file, out, signal);
        }
        return out;
      },
    };
  });
}

/** Index of a range in a list that it joins unless it is there. */
function placeRange(list: SourceRange[], range: SourceRange): number {
  const { offsetBytes, lengthBytes } = range;
  const found = list.findIndex((other) => other.offsetBytes === offsetBytes && other.lengthBytes === lengthBytes);
  return found >= 0 ? found : list.push(range) - 1;
}

/** The weights of a slab as a GGUF file would have them. */
async function assembleSlab(
  { ranges, assemble }: TensorSlab,
  bytes: readonly Uint8Array[],
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  for (const [i, { lengthBytes, purpose }] of ranges.entries()) {
    assert(bytes[i]?.byteLength === lengthBytes, `${purpose}: ${lengthBytes} bytes, got ${bytes[i]?.byteLength}`);
  }
  return assemble ? assemble(bytes, signal) : (bytes[0] as Uint8Array);
}
