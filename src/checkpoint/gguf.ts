/**
 * Reads a GGUF v3 file's header into checked metadata and a tensor directory.
 * Owns the checks of tensors against the file; never reads tensor data but for the samples of the identity.
 * Values are decoded by @huggingface/gguf from header bytes that gguf-header.ts has bounded (docs/decisions/0007).
 */
import { GGMLQuantizationType, type GGUFParseOutput, gguf } from '@huggingface/gguf';
import { EngineError } from '../errors';
import type { ByteSource } from './byte-source';
import { findGgmlFormat, weightFormats } from './formats';
import { getFileBytes, roundUp } from './formats/weight-format';
import { type GgufHeader, readGgufHeader } from './gguf-header';
import { GgufMetadata, type MetadataScalar, type MetadataValue } from './gguf-metadata';
import type { WeightType } from './model-config';

export interface TensorEntry {
  readonly name: string;
  readonly type: WeightType;
  /** Outermost first; the last is the number of columns. GGUF stores the reverse. */
  readonly shape: readonly number[];
  /** From the start of the file. */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

export interface GgufFile {
  /** Name of the source, for messages. */
  readonly sourceName: string;
  readonly metadata: GgufMetadata;
  /** By name, in file order. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** Where tensor data starts. */
  readonly headerBytes: number;
  readonly sourceBytes: number;
  /** Content identity: `gguf-` and 32 hex digits. */
  readonly modelId: string;
}

type GgufFetch = NonNullable<NonNullable<Parameters<typeof gguf>[1]>['fetch']>;

/** The piece size of @huggingface/gguf (HTTP_CHUNK_SIZE): it asks for these ranges and takes no longer answers. */
const LIBRARY_CHUNK_BYTES = 2_000_000;
const DEFAULT_ALIGNMENT_BYTES = 32;
const MAX_ALIGNMENT_BYTES = 65_536;
const SAMPLED_TENSORS = 8;
const SAMPLE_BYTES = 4096;

/**
 * Reads and checks the header of a GGUF file.
 * @throws EngineError `BAD_FILE`, `UNSUPPORTED` (version, tensor type), and what the source throws.
 */
export async function readGguf(source: ByteSource, signal?: AbortSignal): Promise<GgufFile> {
  const header = await readGgufHeader(source, LIBRARY_CHUNK_BYTES, signal);
  const parsed = await parseHeader(source, header);
  const metadata = new GgufMetadata(source.name, collectMetadata(source, header, parsed));
  const alignmentBytes = getAlignment(source, metadata);
  const headerBytes = roundUp(header.bytes.byteLength, alignmentBytes);
  const tensors = collectTensors(source, parsed, headerBytes, alignmentBytes);
  checkOverlap(source, tensors);
  const modelId = await readModelId(source, header.bytes, tensors, signal);
  return { sourceName: source.name, metadata, tensors, headerBytes, sourceBytes: source.sizeBytes, modelId };
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
): Map<string, TensorEntry> {
  const tensors = new Map<string, TensorEntry>();
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
    tensors.set(name, { name, type: format.type, shape, offsetBytes: dataStart + Number(offset), sizeBytes });
  }
  return tensors;
}

function checkOverlap(source: ByteSource, tensors: ReadonlyMap<string, TensorEntry>): void {
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

/**
 * Header and size tell most models apart; two trainings of one architecture and tokenizer differ in weights only,
 * so the first bytes of a few tensors, spread over the file, count too.
 */
async function readModelId(
  source: ByteSource,
  header: Uint8Array,
  tensors: ReadonlyMap<string, TensorEntry>,
  signal?: AbortSignal,
): Promise<string> {
  const entries = [...tensors.values()];
  const count = Math.min(SAMPLED_TENSORS, entries.length);
  const samples = await Promise.all(
    Array.from({ length: count }, (_, i) => {
      const tensor = entries[Math.round(((i + 0.5) * entries.length) / count - 0.5)] as TensorEntry;
      return source.read(tensor.offsetBytes, Math.min(SAMPLE_BYTES, tensor.sizeBytes), signal);
    }),
  );
  const parts = [header, new TextEncoder().encode(`|${source.sizeBytes}|`), ...samples];
  const digest = await crypto.subtle.digest('SHA-256', await new Blob(parts as BlobPart[]).arrayBuffer());
  const hex = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
  return `gguf-${hex.slice(0, 32)}`;
}
