/**
 * A remote file whose first reads, header and samples, are kept in a store: the plan of an install that was interrupted
 * is made again without asking for them again, and records that lie in them are cut from them.
 * Never keeps what is read after `settle`: that is what becomes records. Never fails because a store does.
 */
import { throwIfAborted } from '../aborts';
import type { ByteSource } from '../checkpoint/byte-source';
import type { CheckpointFiles } from '../checkpoint/checkpoint-files';
import type { ModelStore } from './model-store';
import { computeDigest } from './record-digest';
import { isStorageError } from './storage-errors';

interface RememberedSource extends ByteSource {
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

/**
 * Remembers the remote ones of a checkpoint's files.
 * @param store null: nothing is remembered.
 * @param onWarning told, once, that the store fails and less is remembered.
 */
export function rememberFiles(
  files: CheckpointFiles,
  store: ModelStore | null,
  onWarning?: (message: string) => void,
): RememberedFiles {
  const sources: RememberedSource[] = [];
  const cacheIds: string[] = [];
  let isWarned = false;
  const noteFailure = (error: unknown): void => {
    if (!isStorageError(error)) throw error;
    if (!isWarned)
      onWarning?.(`the headers of ${files.name} are not kept, and are read again next time: ${error.message}`);
    isWarned = true;
  };
  return {
    ...files,
    cacheIds,
    settle() {
      for (const source of sources) source.settle();
    },
    async find(path, signal, isOptional) {
      const source = await files.find(path, signal, isOptional);
      if (!source?.isRemote || !store) return source;
      const cacheId = await getCacheId(source.name);
      cacheIds.push(cacheId);
      try {
        const remembered = await rememberSource(source, store, cacheId, noteFailure);
        sources.push(remembered);
        return remembered;
      } catch (error) {
        noteFailure(error);
        return source;
      }
    },
  };
}

/**
 * @param source one whose reads cost something. Blocks of an older version of it are removed.
 * @param onFailure told why nothing more is kept.
 * @throws EngineError `STORAGE`, `STORAGE_FULL` where what is kept cannot be known.
 */
async function rememberSource(
  source: ByteSource,
  store: ModelStore,
  cacheId: string,
  onFailure: (error: unknown) => void,
): Promise<RememberedSource> {
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
    try {
      await store.writeRecords(cacheId, [[getKey(block), bytes, digest]]);
    } catch (error) {
      keeps = false;
      onFailure(error);
      return bytes;
    }
    digests.set(getKey(block), digest);
    blocks.push(block);
    return bytes;
  };

  return {
    ...source,
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
