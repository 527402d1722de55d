/**
 * Which beginning of a conversation the KV cache holds: before a prompt overwrites one that others may go on from, it is copied
 * to host RAM, and the one that shares most with the prompt comes back. Owns these copies' order; never computes a position.
 *
 * Chat requests carry no state: it is the text that finds its prefix, and of several the longest.
 */
import { throwIfAborted } from '../aborts';
import { type ReadbackPart, Submission } from '../gpu/pass';
import { type CacheRange, getCacheBuffer, listRings, listRows, sumRanges } from '../model/cache-rows';
import type { GenerateStats } from './engine';
import { countSame, type KeptPrefix, type Prefix } from './kept-prefix';
import type { Runtime } from './runtime';
import type { SavedPrefix, SavedPrefixes, SavedRows } from './saved-prefixes';

/** So many positions are copied in the time that one takes to be computed, at least: layers' experts are read for it. */
const COPIES_PER_TOKEN = 8;

export class PrefixSwitch {
  /** What the first `kept.copied` positions of the cache are a copy of. */
  #source: SavedPrefix | null = null;

  constructor(
    private readonly runtime: Runtime,
    private readonly kept: KeptPrefix,
    private readonly saved: SavedPrefixes,
  ) {}

  /**
   * To be called before a prompt is computed: leaves what it has in common with an earlier one in the cache.
   * @param reuse false: the prompt is to be computed whole.
   * @returns positions that need not be computed.
   * @throws EngineError `DEVICE_LOST`, `GPU_ERROR`, `ABORTED`; the cache is as it was.
   */
  async enter(promptTokenIds: readonly number[], reuse: boolean, signal?: AbortSignal): Promise<number> {
    let most = this.kept.match(promptTokenIds);
    let best: SavedPrefix | null = null;
    for (const prefix of reuse ? this.saved.list() : []) {
      const length = this.kept.match(promptTokenIds, prefix);
      if (length > most) [most, best] = [length, prefix];
    }
    if (best) this.saved.use(best);
    // What both begin with will be there again.
    const { tokenIds, end } = this.kept;
    const stays = tokenIds.slice(0, countSame(tokenIds, best?.tokenIds ?? promptTokenIds));
    const lost = this.kept.getReach() - this.kept.getReach({ tokenIds: stays, end });
    if (lost > 0) await this.#save(lost, signal);
    if (best) this.#restore(best);
    return reuse ? most : 0;
  }

  getStats(): GenerateStats['prefixCache'] {
    const { count, usedBytes, counters } = this.saved;
    return { count, usedBytes, ...counters };
  }

  /** Copies what the cache holds to host RAM, unless that is there, or would take longer than to compute what is lost. */
  async #save(lost: number, signal: AbortSignal | undefined): Promise<void> {
    const { kept, saved, runtime } = this;
    const { config } = runtime.manifest;
    const shape = runtime.plan.state;
    const tokenIds = kept.tokenIds.slice(0, kept.getReach());
    const there = saved.list().find((prefix) => this.#serves(prefix, tokenIds));
    if (there) return saved.use(there);
    const source = this.#source && saved.has(this.#source) ? this.#source : null;
    const from = source ? Math.min(kept.copied, tokenIds.length) : 0;
    if (lost * COPIES_PER_TOKEN < tokenIds.length - from) return;
    const { end } = kept;
    const rows = listRows(config, shape, from, tokenIds.length);
    const rings = listRings(config, shape, end);
    const before = (source?.rows ?? []).filter((piece) => piece.from < from);
    const beforeBytes = before.reduce((sum, piece) => sum + piece.bytes.byteLength, 0);
    if (!saved.hasRoomFor(beforeBytes + sumRanges(rows) + sumRanges(rings))) return;
    const bytes = await readRanges(runtime, rows, signal);
    const ringBytes = await readRanges(runtime, rings, signal);
    const prefix = { tokenIds, end, rows: [...before, { from, to: tokenIds.length, bytes }], rings: ringBytes };
    saved.add(prefix, (other) => this.#serves(prefix, other.tokenIds));
    saved.counters.savedBytes += bytes.byteLength + ringBytes.byteLength;
    this.#source = saved.has(prefix) ? prefix : null;
    kept.noteCopied(tokenIds.length);
  }

  #restore(prefix: SavedPrefix): void {
    const { kept, saved, runtime } = this;
    const { config } = runtime.manifest;
    const shape = runtime.plan.state;
    const { tokenIds, rows, rings, end } = prefix;
    // What both begin with lies in the cache already, but not in its rings.
    const from = countSame(kept.tokenIds, tokenIds);
    let written = 0;
    for (const [i, piece] of rows.entries()) {
      const to = rows[i + 1]?.from ?? tokenIds.length;
      if (to <= from) continue;
      written += writeRows(runtime, piece, Math.max(from, piece.from), to);
    }
    written += writeRanges(runtime, listRings(config, shape, end), rings);
    saved.counters.restoredBytes += written;
    kept.replace(prefix);
    this.#source = saved.has(prefix) ? prefix : null;
  }

  /** Whether a prompt that goes on from these tokens, which end with a tile, would find all of them in the copy. */
  #serves(prefix: Prefix, tokenIds: readonly number[]): boolean {
    return this.kept.match([...tokenIds, -1], prefix) === tokenIds.length;
  }
}

/** Writes positions `from` to `to - 1` of a piece. @returns bytes */
function writeRows(runtime: Runtime, piece: SavedRows, from: number, to: number): number {
  const { config } = runtime.manifest;
  const shape = runtime.plan.state;
  const all = listRows(config, shape, piece.from, piece.to);
  const wanted = listRows(config, shape, from, to);
  let at = 0;
  for (const [i, range] of all.entries()) {
    const part = wanted[i] as CacheRange;
    writeRange(runtime, part, piece.bytes, at + part.offsetBytes - range.offsetBytes);
    at += range.sizeBytes;
  }
  return sumRanges(wanted);
}

/** Writes ranges from bytes that lie one behind the other. @returns bytes */
function writeRanges(runtime: Runtime, ranges: readonly CacheRange[], bytes: Uint8Array): number {
  let at = 0;
  for (const range of ranges) {
    writeRange(runtime, range, bytes, at);
    at += range.sizeBytes;
  }
  return at;
}

function writeRange({ device, state }: Runtime, range: CacheRange, bytes: Uint8Array, at: number): void {
  const data = bytes.subarray(at, at + range.sizeBytes) as Uint8Array<ArrayBuffer>;
  device.handle.queue.writeBuffer(getCacheBuffer(state, range), range.offsetBytes, data);
}

/** Ranges one behind the other, read by as many round trips as the read-back buffer makes of them. */
async function readRanges(
  { device, state }: Runtime,
  ranges: readonly CacheRange[],
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(sumRanges(ranges));
  let at = 0;
  for (const parts of cut(ranges, state.readback.size - (state.readback.size % 4))) {
    throwIfAborted(signal);
    const sources = parts.map((part): ReadbackPart => ({ ...part, source: getCacheBuffer(state, part) }));
    const read = await new Submission(device).submitAndRead(sources, state.readback);
    bytes.set(new Uint8Array(read), at);
    at += read.byteLength;
  }
  return bytes;
}

/** Cuts ranges so that each list of them has at most so many bytes. */
function cut(ranges: readonly CacheRange[], mostBytes: number): CacheRange[][] {
  const lists: CacheRange[][] = [];
  let room = 0;
  for (const range of ranges) {
    for (let done = 0; done < range.sizeBytes; ) {
      if (room === 0) {
        lists.push([]);
        room = mostBytes;
      }
      const sizeBytes = Math.min(room, range.sizeBytes - done);
      lists.at(-1)?.push({ ...range, offsetBytes: range.offsetBytes + done, sizeBytes });
      done += sizeBytes;
      room -= sizeBytes;
    }
  }
  return lists;
}
