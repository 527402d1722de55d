/**
 * Reads a GGUF v3 file's header into checked metadata and a tensor directory.
 * Owns the checks of tensors against the file; never reads tensor data.
 * Values are decoded by @huggingface/gguf from header bytes that gguf-header.ts has bounded (docs/decisions/0007).
 */
import { GGMLQuantizationType, type GGUFParseOutput, gguf } from '@huggingface/gguf';
import { EngineError } from '../errors';
import type { ByteSource } from './byte-source';
import { type Checkpoint, sliceRange, type TensorEntry } from './checkpoint';
import { type CheckpointFiles, createLoneFile, joinSources } from './checkpoint-files';
import { findGgmlFormat, weightFormats } from './formats';
import { getFileBytes, roundUp } from './formats/weight-format';
import { type GgufHeader, readGgufHeader } from './gguf-header';
import { GgufMetadata, type MetadataScalar, type MetadataValue } from './gguf-metadata';
import type { WeightType } from './model-config';
import { computeModelId } from './model-identity';
import { readTokenizerData } from './tokenizer-data';

export interface GgufTensor extends TensorEntry {
  /** From the start of the source. */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

export interface GgufFile extends Checkpoint {
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  /** Where the tensor data of the first file starts. */
  readonly headerBytes: number;
}

/** One file of a checkpoint, by itself. */
interface GgufPart {
  readonly source: ByteSource;
  readonly header: Uint8Array<ArrayBuffer>;
  readonly headerBytes: number;
  readonly metadata: GgufMetadata;
  /** In file order. */
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

type GgufFetch = NonNullable<NonNullable<Parameters<typeof gguf>[1]>['fetch']>;

/** The piece size of @huggingface/gguf (HTTP_CHUNK_SIZE): it asks for these ranges and takes no longer answers. */
const LIBRARY_CHUNK_BYTES = 2_000_000;
const DEFAULT_ALIGNMENT_BYTES = 32;
const MAX_ALIGNMENT_BYTES = 65_536;
const SPLIT_COUNT = 'split.count';
const SPLIT_NUMBER = 'split.no';
const MAX_PARTS = 1000;

/**
 * Reads and checks the header of a GGUF file, and of the files behind it when it is the first of several.
 * @throws EngineError `BAD_FILE`, `UNSUPPORTED` (version, tensor type), and what the source throws.
 */
export async function readGguf(files: CheckpointFiles, path: string, signal?: AbortSignal): Promise<GgufFile> {
  const parts = await readParts(files, path, signal);
  const { source: first, metadata, headerBytes } = parts[0] as GgufPart;
  const source =
    parts.length === 1
      ? first
      : joinSources(
          first.name,
          parts.map((part) => part.source),
        );
  const tensors = joinTensors(parts);
  const headers = parts.map(({ header }) => header);
  const modelId = await computeModelId('gguf', headers, source, [...tensors.values()], signal);
  return {
    sourceName: first.name,
    modelId,
    metadata,
    traits: {},
    tensors,
    headerBytes,
    source,
    quantization: null,
    readTokenizer: (vocabSize) => readTokenizerData({ metadata, sourceName: first.name }, vocabSize),
  };
}

/** A lone GGUF file. */
export function readGgufFile(source: ByteSource, signal?: AbortSignal): Promise<GgufFile> {
  return readGguf(createLoneFile(source), source.name, signal);
}

/** The files in order: one, or as many as `split.count` of the first says. */
async function readParts(files: CheckpointFiles, path: string, signal?: AbortSignal): Promise<GgufPart[]> {
  const open = async (partPath: string): Promise<GgufPart> => {
    const source = await files.find(partPath, signal);
    if (!source) throw new EngineError('BAD_FILE', `${files.name}: file "${partPath}" is missing`);
    return readPart(source, signal);
  };
  const first = await open(path);
  const count = first.metadata.getInteger(SPLIT_COUNT, { min: 0, max: MAX_PARTS, default: 0 });
  if (count <= 1) return [first];
  const getPath = getPartPaths(first, path, count);
  const rest: GgufPart[] = [];
  for (let i = 1; i < count; i++) {
    const part = await open(getPath(i));
    const key = SPLIT_NUMBER;
    const number = part.metadata.getInteger(key, { min: 0, max: MAX_PARTS });
    const partCount = part.metadata.getInteger(SPLIT_COUNT, { min: 0, max: MAX_PARTS });
    if (number !== i || partCount !== count) {
      fail(part.source, `is part ${number + 1} of ${partCount}; part ${i + 1} of ${count} is needed`);
    }
    rest.push(part);
  }
  const parts = [first, ...rest];
  const found = parts.reduce((sum, part) => sum + part.tensors.size, 0);
  const expected = first.metadata.getInteger('split.tensors.count', { default: found });
  if (found !== expected)
    fail(first.source, `its ${count} parts have ${found} tensors; "split.tensors.count" is ${expected}`);
  return parts;
}

/** Paths of the parts by number, from the first one's: `NAME-00001-of-00003.gguf`. */
function getPartPaths({ source, metadata }: GgufPart, path: string, count: number): (index: number) => string {
  const number = metadata.getInteger(SPLIT_NUMBER, { min: 0, max: MAX_PARTS });
  const pad = (value: number) => String(value).padStart(5, '0');
  const ending = `-${pad(1)}-of-${pad(count)}.gguf`;
  // A URL may have a query behind the path.
  const at = path.lastIndexOf(ending);
  if (number !== 0 || at < 0) {
    fail(source, `is part ${number + 1} of ${count}; name the first one, whose name ends in "${ending}"`);
  }
  return (index) => `${path.slice(0, at)}-${pad(index + 1)}-of-${pad(count)}.gguf${path.slice(at + ending.length)}`;
}

async function readPart(source: ByteSource, signal?: AbortSignal): Promise<GgufPart> {
  const header = await readGgufHeader(source, LIBRARY_CHUNK_BYTES, signal);
  const parsed = await parseHeader(source, header);
  const metadata = new GgufMetadata(source.name, collectMetadata(source, header, parsed));
  const alignmentBytes = getAlignment(source, metadata);
  const headerBytes = roundUp(header.bytes.byteLength, alignmentBytes);
  const tensors = collectTensors(source, parsed, headerBytes, alignmentBytes);
  checkOverlap(source, tensors);
  return { source, header: header.bytes, headerBytes, metadata, tensors };
}

/** All parts' tensors, by offsets in the joined source. */
function joinTensors(parts: readonly GgufPart[]): Map<string, GgufTensor> {
  const all = new Map<string, GgufTensor>();
  let startBytes = 0;
  for (const { source, tensors } of parts) {
    for (const { name, type, shape, offsetBytes, sizeBytes } of tensors.values()) {
      if (all.has(name)) fail(source, `tensor "${name}" appears in two parts; a name may appear once`);
      all.set(name, createTensor(name, type, shape, startBytes + offsetBytes, sizeBytes));
    }
    startBytes += source.sizeBytes;
  }
  return all;
}

function createTensor(
  name: string,
  type: WeightType,
  shape: readonly number[],
  offsetBytes: number,
  sizeBytes: number,
): GgufTensor {
  const getSlab = (index: number, count: number) => ({
    ranges: [sliceRange(name, offsetBytes, sizeBytes, index, count)],
    assemble: null,
  });
  return { name, type, shape, offsetBytes, sizeBytes, getSlab };
}

function fail(source: ByteSource, message: string, cause?: unknown): never {
  throw new EngineError('BAD_FILE', `${source.name}: ${message}`, cause === undefined ? undefined : { cause });
}

async function parseHeader(source: ByteSource, header: GgufHeader): Promise<GGUFParseOutput> {
  // The library wants a URL and asks for ranges of it; the answers come from the header in memory.
  const answer: GgufFetch = async (_url, init) => {
    const range = /^bytes=(\d+)-(\d+)$/.exec(new Headers(init?.headers).get('range') ?? '');
    if (!range) throw new EngineError('INTERNAL', '@huggingface/gguf asked for a header without a byte range');
    const body = header.bytes.subarray(Number(range[1]), Number(range[2]) + 1);
    return new Response(body, { status: 206 });
  };
  try {
    return await gguf('http://header.invalid/', { fetch: answer });
  } catch (error) {
    if (error instanceof EngineError) throw error;
    fail(source, `unreadable GGUF header: ${error instanceof Error ? error.message : String(error)}`, error);
  }
}

function collectMetadata(
  source: ByteSource,
  header: GgufHeader,
  parsed: GGUFParseOutput,
): ReadonlyMap<string, MetadataValue> {
  const found: object = parsed.metadata;
  const values = new Map<string, MetadataValue>();
  for (const key of header.metadataKeys) {
    // Keys such as "__proto__" do not arrive as own properties.
    if (!Object.hasOwn(found, key)) fail(source, `metadata key ${JSON.stringify(key)} is not usable as a key`);
    const value = Reflect.get(found, key) as MetadataScalar | MetadataScalar[];
    values.set(key, Array.isArray(value) ? value.map(narrow) : narrow(value));
  }
  // @huggingface/gguf 0.4.6 strips a leading U+FEFF from strings, and silently shortens a string at the end of a
  // 2 MB piece when nothing behind it in the same value needs the next piece. Delete when both are gone upstream.
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  for (const { key, index, start, end } of header.fragileStrings) {
    const text = decoder.decode(header.bytes.subarray(start, end));
    if (index === null) values.set(key, text);
    else (values.get(key) as MetadataScalar[])[index] = text;
  }
  return values;
}

/** 64-bit integers become numbers where that is exact; the getters refuse the others. */
function narrow(value: MetadataScalar): MetadataScalar {
  return typeof value === 'bigint' && Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

function getAlignment(source: ByteSource, metadata: GgufMetadata): number {
  const key = 'general.alignment';
  const alignment = metadata.getInteger(key, { min: 8, max: MAX_ALIGNMENT_BYTES, default: DEFAULT_ALIGNMENT_BYTES });
  if ((alignment & (alignment - 1)) !== 0) fail(source, `"${key}" is ${alignment}; a power of two is needed`);
  return alignment;
}

function collectTensors(
  source: ByteSource,
  parsed: GGUFParseOutput,
  dataStart: number,
  alignmentBytes: number,
): Map<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>();
  for (const { name, shape: dimensions, dtype, offset } of parsed.tensorInfos) {
    if (tensors.has(name)) fail(source, `tensor "${name}" appears twice; a name may appear once`);
    const count = dimensions.reduce((product, dimension) => product * dimension, 1n);
    if (count < 1n || count > BigInt(Number.MAX_SAFE_INTEGER)) {
      fail(source, `tensor "${name}" has ${count} weights; 1 to ${Number.MAX_SAFE_INTEGER} are possible`);
    }
    const shape = dimensions.map(Number).reverse();
    const format = findGgmlFormat(dtype);
    if (!format) {
      const accepted = weightFormats.map(({ type }) => type.toUpperCase()).join(', ');
      throw new EngineError(
        'UNSUPPORTED',
        `${source.name}: tensor "${name}" has type ${dtype} (${GGMLQuantizationType[dtype] ?? 'unknown'}); ` +
          `accepted are ${accepted}`,
      );
    }
    const cols = shape.at(-1) as number;
    if (cols % format.blockWeights !== 0) {
      fail(source, `tensor "${name}" has ${cols} columns; ${format.type} needs a multiple of ${format.blockWeights}`);
    }
    if (offset % BigInt(alignmentBytes) !== 0n) {
      fail(source, `tensor "${name}" starts at data offset ${offset}; the alignment is ${alignmentBytes}`);
    }
    const sizeBytes = getFileBytes(format, Number(count));
    const end = BigInt(dataStart) + offset + BigInt(sizeBytes);
    if (end > BigInt(source.sizeBytes)) {
      fail(
        source,
        `tensor "${name}" ends at byte ${end}, but the file has ${source.sizeBytes}: truncated; download it again`,
      );
    }
    tensors.set(name, createTensor(name, format.type, shape, dataStart + Number(offset), sizeBytes));
  }
  return tensors;
}

function checkOverlap(source: ByteSource, tensors: ReadonlyMap<string, GgufTensor>): void {
  const inOrder = [...tensors.values()].sort((a, b) => a.offsetBytes - b.offsetBytes);
  for (const [i, tensor] of inOrder.entries()) {
    const next = inOrder[i + 1];
    const end = tensor.offsetBytes + tensor.sizeBytes;
    if (next && next.offsetBytes < end) {
      fail(
        source,
        `tensor "${next.name}" starts at byte ${next.offsetBytes}, inside "${tensor.name}" (ends at ${end})`,
      );
    }
  }
}
