/**
 * Reads the header of a safetensors file: a length, a JSON object of tensors, then their bytes.
 * Owns the checks of that header against the file; knows no names and reads no tensor.
 *
 * Format: https://github.com/huggingface/safetensors (u64 little-endian length; `data_offsets` count from the header's end).
 */
import { EngineError } from '../errors';
import type { ByteSource } from './byte-source';

/** Bytes of one value by `dtype`; types that webmoe does not read are refused where a tensor is used. */
const VALUE_BYTES: Readonly<Record<string, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
};

/** Longest header read. DeepSeek-V3's 163 files have headers of about 100 KB each; one file of a large model, 10 MB. */
const MAX_HEADER_BYTES = 48_000_000;
const MAX_TENSORS = 500_000;
const MAX_DIMENSIONS = 8;
const LENGTH_BYTES = 8;

export interface SafetensorsEntry {
  readonly name: string;
  readonly dtype: string;
  /** Outermost first. */
  readonly shape: readonly number[];
  /** From the start of the file. */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

export interface SafetensorsHeader {
  readonly bytes: Uint8Array;
  /** In file order. */
  readonly tensors: readonly SafetensorsEntry[];
}

/** @throws EngineError `BAD_FILE`, and what the source throws. */
export async function readSafetensorsHeader(source: ByteSource, signal?: AbortSignal): Promise<SafetensorsHeader> {
  const fail = (message: string, cause?: unknown): never => {
    throw new EngineError('BAD_FILE', `${source.name}: ${message}`, cause === undefined ? undefined : { cause });
  };
  if (source.sizeBytes < LENGTH_BYTES + 2) {
    fail(`has ${source.sizeBytes} bytes; a safetensors file has at least ${LENGTH_BYTES + 2}`);
  }
  const prefix = await source.read(0, LENGTH_BYTES, signal);
  const declared = new DataView(prefix.buffer, prefix.byteOffset, LENGTH_BYTES).getBigUint64(0, true);
  const room = source.sizeBytes - LENGTH_BYTES;
  if (declared > BigInt(Math.min(room, MAX_HEADER_BYTES))) {
    fail(
      `its header has ${declared} bytes, the file has ${room} behind the length, and ${MAX_HEADER_BYTES} are read at most`,
    );
  }
  const bytes = await source.read(LENGTH_BYTES, Number(declared), signal);
  const dataStart = LENGTH_BYTES + bytes.byteLength;
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    fail(`its header is no JSON in UTF-8 (${error instanceof Error ? error.message : String(error)})`, error);
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) fail('its header is no JSON object');
  const entries = Object.entries(parsed as object).filter(([name]) => name !== '__metadata__');
  if (entries.length > MAX_TENSORS) fail(`has ${entries.length} tensors; the limit is ${MAX_TENSORS}`);
  const tensors = entries.map(([name, entry]): SafetensorsEntry => {
    const { dtype, shape, data_offsets: offsets } = (entry ?? {}) as Record<string, unknown>;
    const what = `tensor ${JSON.stringify(name.slice(0, 200))}`;
    if (typeof dtype !== 'string') return fail(`${what} has no "dtype"`);
    const valueBytes =
      VALUE_BYTES[dtype] ?? fail(`${what} has the unknown dtype ${JSON.stringify(dtype.slice(0, 40))}`);
    if (!isCounts(shape) || shape.length > MAX_DIMENSIONS) {
      return fail(`${what}: "shape" is no list of at most ${MAX_DIMENSIONS} whole numbers`);
    }
    if (!isCounts(offsets) || offsets.length !== 2) return fail(`${what}: "data_offsets" are no two whole numbers`);
    const [start, end] = offsets as [number, number];
    const sizeBytes = shape.reduce((product, length) => product * length, valueBytes);
    if (end - start !== sizeBytes) {
      fail(
        `${what}: shape [${shape.join(', ')}] of ${dtype} takes ${sizeBytes} bytes; "data_offsets" leave ${end - start}`,
      );
    }
    if (end > source.sizeBytes - dataStart) {
      fail(
        `${what} ends at byte ${dataStart + end}, but the file has ${source.sizeBytes}: truncated; download it again`,
      );
    }
    return { name, dtype, shape, offsetBytes: dataStart + start, sizeBytes };
  });
  tensors.sort((a, b) => a.offsetBytes - b.offsetBytes);
  for (const [i, { name, offsetBytes, sizeBytes }] of tensors.entries()) {
    const next = tensors[i + 1];
    if (next && next.offsetBytes < offsetBytes + sizeBytes) {
      fail(
        `tensor "${next.name}" starts at byte ${next.offsetBytes}, inside "${name}" (ends at ${offsetBytes + sizeBytes})`,
      );
    }
  }
  return { bytes, tensors };
}

function isCounts(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && (item as number) >= 0);
}
