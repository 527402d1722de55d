/**
 * Several named files that make one checkpoint: a folder, a repository, the parts of a split file.
 * Owns the interface and the joining of files into one source; files, URLs and repositories implement it in store/.
 */
import type { ByteSource } from './byte-source';

export interface CheckpointFiles {
  /** What to call the whole in messages: a file's name, a folder, a repository. */
  readonly name: string;
  /** Path of the GGUF file to read, its first part when it is split; null: a folder with safetensors files. */
  readonly ggufPath: string | null;
  /**
   * Opens a file by its path in the checkpoint, or null when there is none.
   * @param isOptional the checkpoint can do without it: a server that refuses it and not the others does not have it.
   * @throws EngineError `NETWORK`, `STORAGE`, `ABORTED`
   */
  find(path: string, signal?: AbortSignal, isOptional?: boolean): Promise<ByteSource | null>;
}

/** A lone GGUF file, without neighbours. */
export function createLoneFile(source: ByteSource): CheckpointFiles {
  return {
    name: source.name,
    ggufPath: source.name,
    find: async (path) => (path === source.name ? source : null),
  };
}

export interface JoinedSource extends ByteSource {
  /** Where each part starts, in the order given. */
  readonly startBytes: readonly number[];
}

/** Sources one behind the other as one; a read across a border becomes one read of each part. */
export function joinSources(name: string, parts: readonly ByteSource[]): JoinedSource {
  const startBytes: number[] = [];
  let sizeBytes = 0;
  for (const part of parts) {
    startBytes.push(sizeBytes);
    sizeBytes += part.sizeBytes;
  }
  return {
    name,
    sizeBytes,
    version: parts.map(({ version }) => version ?? '').join(' '),
    isRemote: parts.some(({ isRemote }) => isRemote),
    startBytes,
    async read(offsetBytes, lengthBytes, signal) {
      const end = offsetBytes + lengthBytes;
      const reads = parts.flatMap((part, i) => {
        const start = startBytes[i] as number;
        const from = Math.max(offsetBytes, start);
        const length = Math.min(end, start + part.sizeBytes) - from;
        return length > 0 ? [part.read(from - start, length, signal)] : [];
      });
      const pieces = await Promise.all(reads);
      if (pieces.length === 1) return pieces[0] as Uint8Array;
      const out = new Uint8Array(lengthBytes);
      let at = 0;
      for (const piece of pieces) {
        out.set(piece, at);
        at += piece.byteLength;
      }
      return out;
    },
  };
}
