/**
 * Finds out how long a GGUF header is, and that every length in it is possible, before anything is allocated from it.
 * Owns bounds only; the values are read by @huggingface/gguf (gguf.ts), which trusts lengths and zero-fills short bodies.
 *
 * Layout: ggml/docs/gguf.md. Sizes are u64, strings are u64 length and UTF-8 bytes, all little-endian.
 */
import { EngineError } from '../errors';
import type { ByteSource } from './byte-source';

/** Longest header read. The largest known (a vocabulary of 260,000 with merges) is about 16 MB. */
const MAX_HEADER_BYTES = 48_000_000;
const MAX_METADATA_ENTRIES = 65_536;
const MAX_TENSORS = 65_536;
const MAX_ARRAY_LENGTH = 1_000_000;
const MAX_KEY_BYTES = 65_535;
const MAX_STRING_BYTES = 1_000_000;
const MAX_DIMENSIONS = 4;
const FIRST_READ_BYTES = 1 << 20;
const PREFIX_BYTES = 24;

const TYPE_STRING = 8;
const TYPE_ARRAY = 9;
/** Bytes of a value by GGUF value type; strings and arrays are walked. */
const SCALAR_BYTES: readonly (number | undefined)[] = [1, 1, 2, 2, 4, 4, 4, 1, undefined, undefined, 8, 8, 8];
/** Length and no bytes. */
const MIN_STRING_BYTES = 8;
/** Key, value type, a one-byte value. */
const MIN_ENTRY_BYTES = MIN_STRING_BYTES + 4 + 1;
/** Name, dimension count, one dimension, type, offset. */
const MIN_TENSOR_BYTES = MIN_STRING_BYTES + 4 + 8 + 4 + 8;

/** A string of the metadata, by where its bytes are. */
export interface StringSpan {
  readonly key: string;
  /** Position in the array, or null for a string that is the value itself. */
  readonly index: number | null;
  readonly start: number;
  readonly end: number;
}

export interface GgufHeader {
  /** The header: from the magic to the end of the last tensor's entry, without padding. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly metadataKeys: readonly string[];
  readonly tensorCount: number;
  /** Strings that @huggingface/gguf gets wrong, see gguf.ts. */
  readonly fragileStrings: readonly StringSpan[];
}

/** The walk needs bytes that were not read yet. */
class NeedBytes extends Error {
  constructor(readonly end: number) {
    super();
  }
}

function fail(source: ByteSource, message: string): never {
  throw new EngineError('BAD_FILE', `${source.name}: ${message}`);
}

class Walk {
  private readonly view: DataView;
  private readonly decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  private offset = PREFIX_BYTES;
  private readonly fragile: StringSpan[] = [];

  constructor(
    private readonly source: ByteSource,
    private readonly bytes: Uint8Array<ArrayBuffer>,
    private readonly chunkBytes: number,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  header(metadataCount: number, tensorCount: number): GgufHeader {
    const keys = new Set<string>();
    for (let i = 0; i < metadataCount; i++) {
      const key = this.name(`metadata key ${i}`, MAX_KEY_BYTES);
      if (keys.has(key)) fail(this.source, `metadata key "${key}" appears twice; a key may appear once`);
      keys.add(key);
      this.value(key);
    }
    for (let i = 0; i < tensorCount; i++) this.tensor(i);
    return {
      bytes: this.bytes.subarray(0, this.offset),
      metadataKeys: [...keys],
      tensorCount,
      fragileStrings: this.fragile,
    };
  }

  /** Moves past `lengthBytes` bytes and returns where they start. */
  private skip(lengthBytes: number, what: string): number {
    const start = this.offset;
    const end = start + lengthBytes;
    if (end > this.source.sizeBytes) {
      fail(
        this.source,
        `${what} ends at byte ${end}, but the file has ${this.source.sizeBytes}: truncated or not a GGUF file`,
      );
    }
    if (end > this.bytes.byteLength) throw new NeedBytes(end);
    this.offset = end;
    return start;
  }

  /** A u64 that counts things of at least `minBytes` each. */
  private count(what: string, minBytes: number, limit: number): number {
    const at = this.skip(8, what);
    return checkCount(this.source, what, this.view.getBigUint64(at, true), minBytes, limit, this.offset);
  }

  private name(what: string, limit: number): string {
    const length = this.count(`length of ${what}`, 1, limit);
    const start = this.skip(length, what);
    return this.decoder.decode(this.bytes.subarray(start, start + length));
  }

  private value(key: string): void {
    const what = `value of "${key}"`;
    const type = this.view.getUint32(this.skip(4, what), true);
    if (type === TYPE_ARRAY) this.array(key, what);
    else if (type === TYPE_STRING) this.string(key, null);
    else this.skip(this.scalarBytes(type, what), what);
  }

  private array(key: string, what: string): void {
    const elementType = this.view.getUint32(this.skip(4, what), true);
    if (elementType === TYPE_ARRAY) {
      fail(this.source, `${what} is an array of arrays; arrays may hold scalars and strings only`);
    }
    const elementBytes = elementType === TYPE_STRING ? MIN_STRING_BYTES : this.scalarBytes(elementType, what);
    const length = this.count(`array length of "${key}"`, elementBytes, MAX_ARRAY_LENGTH);
    if (elementType === TYPE_STRING) for (let i = 0; i < length; i++) this.string(key, i);
    else this.skip(length * elementBytes, what);
  }

  private scalarBytes(type: number, what: string): number {
    return SCALAR_BYTES[type] ?? fail(this.source, `${what} has value type ${type}; types 0 to 12 exist`);
  }

  private string(key: string, index: number | null): void {
    const what = index === null ? `string "${key}"` : `string ${index} of "${key}"`;
    const length = this.count(`length of ${what}`, 1, MAX_STRING_BYTES);
    const start = this.skip(length, what);
    const end = start + length;
    // Counted from the length before it: a string that starts a piece is cut as well.
    const piece = (offset: number) => Math.floor(offset / this.chunkBytes);
    const straddles = piece(start - 1) !== piece(end - 1);
    const bytes = this.bytes;
    const startsWithBom =
      length >= 3 && bytes[start] === 0xef && bytes[start + 1] === 0xbb && bytes[start + 2] === 0xbf;
    if (straddles || startsWithBom) this.fragile.push({ key, index, start, end });
  }

  private tensor(index: number): void {
    const name = this.name(`name of tensor ${index}`, MAX_KEY_BYTES);
    const what = `entry of tensor "${name}"`;
    const dimensions = this.view.getUint32(this.skip(4, what), true);
    if (dimensions < 1 || dimensions > MAX_DIMENSIONS) {
      fail(this.source, `tensor "${name}" has ${dimensions} dimensions; 1 to ${MAX_DIMENSIONS} are possible`);
    }
    this.skip(dimensions * 8 + 4 + 8, what);
  }
}

function checkCount(
  source: ByteSource,
  what: string,
  value: bigint,
  minBytes: number,
  limit: number,
  offset: number,
): number {
  const possible = Math.floor((source.sizeBytes - offset) / minBytes);
  if (value > BigInt(possible)) {
    fail(source, `${what} is ${value}, but the ${source.sizeBytes} bytes of the file leave room for ${possible}`);
  }
  if (value > BigInt(limit)) fail(source, `${what} is ${value}; the limit is ${limit}`);
  return Number(value);
}

function checkPrefix(source: ByteSource, prefix: Uint8Array): { metadataCount: number; tensorCount: number } {
  const view = new DataView(prefix.buffer, prefix.byteOffset, prefix.byteLength);
  const magic = view.getUint32(0, false);
  if (magic !== 0x47475546) {
    const found = magic.toString(16).padStart(8, '0');
    fail(source, `starts with bytes ${found}, not with "GGUF" (47475546): not a GGUF file`);
  }
  const version = view.getUint32(4, true);
  if (version === 0x03000000) {
    throw new EngineError('UNSUPPORTED', `${source.name}: big-endian GGUF; only little-endian files are read`);
  }
  if (version === 1 || version === 2) {
    throw new EngineError('UNSUPPORTED', `${source.name}: GGUF version ${version}; convert it again to version 3`);
  }
  if (version !== 3) fail(source, `GGUF version ${version}; version 3 is read`);
  return {
    tensorCount: checkCount(
      source,
      'tensor count',
      view.getBigUint64(8, true),
      MIN_TENSOR_BYTES,
      MAX_TENSORS,
      PREFIX_BYTES,
    ),
    metadataCount: checkCount(
      source,
      'metadata count',
      view.getBigUint64(16, true),
      MIN_ENTRY_BYTES,
      MAX_METADATA_ENTRIES,
      PREFIX_BYTES,
    ),
  };
}

/**
 * Reads the header of a GGUF file, in growing steps, and checks every count and length in it.
 * @param chunkBytes Size of the pieces in which the header's reader will see it.
 * @throws EngineError `BAD_FILE`, `UNSUPPORTED` (version), and what the source throws.
 */
export async function readGgufHeader(
  source: ByteSource,
  chunkBytes: number,
  signal?: AbortSignal,
): Promise<GgufHeader> {
  if (source.sizeBytes < PREFIX_BYTES) {
    fail(source, `has ${source.sizeBytes} bytes; a GGUF file has at least ${PREFIX_BYTES}`);
  }
  const prefix = await source.read(0, PREFIX_BYTES, signal);
  const { metadataCount, tensorCount } = checkPrefix(source, prefix);
  let bytes = new Uint8Array(prefix);
  let wantedBytes = FIRST_READ_BYTES;
  for (;;) {
    const end = Math.min(wantedBytes, source.sizeBytes, MAX_HEADER_BYTES);
    const grown = new Uint8Array(end);
    grown.set(bytes);
    grown.set(await source.read(bytes.byteLength, end - bytes.byteLength, signal), bytes.byteLength);
    bytes = grown;
    try {
      return new Walk(source, bytes, chunkBytes).header(metadataCount, tensorCount);
    } catch (error) {
      if (!(error instanceof NeedBytes)) throw error;
      if (error.end > MAX_HEADER_BYTES) {
        fail(source, `the header passes byte ${error.end}; the limit is ${MAX_HEADER_BYTES}`);
      }
      wantedBytes = Math.max(error.end, 2 * bytes.byteLength);
    }
  }
}
