/**
 * A remote file whose first reads, header and samples, are kept in a store: the plan of an install that was interrupted
 * is made again without asking for them again, and records that lie in them are cut from them.
 * Never keeps what is read after `settle`: that is what becomes records.
 */
import type { ByteSource } from '../checkpoint/byte-source';
import type { CheckpointFiles } from '../checkpoint/checkpoint-files';
import type { ModelStore } from './model-store';
import { computeDigest } from './record-digest';
import { throwIfAborted } from './source-checks';

interface RememberedSource extends ByteSource {
  /** Under which its blocks are kept; goes with the model that is made of it. */
  readonly cacheId: string;
  /** From now on, reads are served from what was kept where they can be, and kept no longer. */
  settle(): void;
}

interface Block {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** What is kept at a time: a page that dies loses no more. */
const PIECE_BYTES = 1024 * 1024;
const VERSION_STATE = 'version';

export interface RememberedFiles extends CheckpointFiles {
  /** Under which blocks of its files are kept; they go with the model. */
  readonly cacheIds: readonly string[];
  /** The plan is made: see RememberedSource. */
  settle(): void;
}

/** Remembers the remote ones of a checkpoint's files. @param store null: nothing is remembered. */
export function rememberFiles(files: CheckpointFiles, store: ModelStore | null): RememberedFiles {
  const sources: RememberedSource[] = [];
  const cacheIds: string[] = [];
  return {
    ...files,
    cacheIds,
    settle() {
      for (const source of sources) source.settle();
    },
    async find(path, signal) {
      const source = await files.find(path, signal);
      if (!source?.isRemote || !store) return source;
      const remembered = await rememberSource(source, store);
      sources.push(remembered);
      cacheIds.push(remembered.cacheId);
      return remembered;
    },
  };
}

/** @param source one whose reads cost something. Blocks of an older version of it are removed. */
async function rememberSource(source: ByteSource, store: ModelStore): Promise<RememberedSource> {
  const cacheId = await getCacheId(source.name);
  const version = getVersion(source);
  if ((await store.readState(cacheId, VERSION_STATE)) !== version) {
    await store.removeModel(cacheId);
    await store.writeState(cacheId, VERSION_STATE, version);
  }
  const digests = new Map(await store.readDigests(cacheId));
  const blocks: Block[] = [...digests.keys()].map(parseKey);
  let keeps = true;

  const readBlock = async (block: Block, signal: AbortSignal | undefined): Promise<Uint8Array> => {
    const key = getKey(block);
    const kept = await store.readRecord(cacheId, key).catch(() => null);
    if (kept && (await computeDigest(kept)) === digests.get(key)) return kept;
    return source.read(block.offsetBytes, block.lengthBytes, signal);
  };

  const readPiece = async (offsetBytes: number, lengthBytes: number, signal: AbortSignal | undefined) => {
    const bytes = await source.read(offsetBytes, lengthBytes, signal);
    if (!keeps) return bytes;
    const block = { offsetBytes, lengthBytes };
    const digest = await computeDigest(bytes);
    await store.writeRecords(cacheId, [[getKey(block), bytes, digest]]);
    digests.set(getKey(block), digest);
    blocks.push(block);
    return bytes;
  };

  return {
    ...source,
    cacheId,
    settle() {
      keeps = false;
    },
    async read(offsetBytes, lengthBytes, signal) {
      throwIfAborted(signal, `reading "${source.name}"`);
      const end = offsetBytes + lengthBytes;
      const pieces: Uint8Array[] = [];
      for (let at = offsetBytes; at < end; ) {
        const block = blocks.find((b) => b.offsetBytes <= at && at < b.offsetBytes + b.lengthBytes);
        if (block) {
          const bytes = await readBlock(block, signal);
          pieces.push(bytes.subarray(at - block.offsetBytes, end - block.offsetBytes));
        } else {
          const next = Math.min(end, ...blocks.map((b) => b.offsetBytes).filter((start) => start > at));
          const most = keeps ? PIECE_BYTES : Number.POSITIVE_INFINITY;
          pieces.push(await readPiece(at, Math.min(next - at, most), signal));
        }
        at += pieces.at(-1)?.byteLength ?? 0;
      }
      if (pieces.length === 1) return pieces[0] as Uint8Array;
      const out = new Uint8Array(lengthBytes);
      let filledBytes = 0;
      for (const piece of pieces) {
        out.set(piece, filledBytes);
        filledBytes += piece.byteLength;
      }
      return out;
    },
  };
}

/** What tells one version of a source from another, as far as it is known. */
export function getVersion(source: ByteSource): string {
  return `${source.sizeBytes} bytes ${source.version ?? ''}`;
}

async function getCacheId(name: string): Promise<string> {
  return `source-${(await computeDigest(new TextEncoder().encode(name))).slice(0, 32)}`;
}

function getKey({ offsetBytes, lengthBytes }: Block): string {
  return `block/${offsetBytes}/${lengthBytes}`;
}

function parseKey(key: string): Block {
  const [, offset, length] = key.split('/');
  return { offsetBytes: Number(offset), lengthBytes: Number(length) };
}
