/**
 * What the checkpoint layer reads from: something with a size and random access.
 * Owns the interface only; files, HTTP ranges and memory implement it in store/.
 */
export interface ByteSource {
  /** What to call it in messages: a file name or URL. */
  readonly name: string;
  /** Size of the whole file in bytes. */
  readonly sizeBytes: number;
  /** Differs between versions of the file, as far as the source can tell: an ETag, a time of change. */
  readonly version?: string;
  /** Every read goes over a network: it is worth keeping what was read. */
  readonly isRemote?: boolean;
  /**
   * Reads exactly `lengthBytes` bytes at `offsetBytes`; never short.
   * @throws EngineError `BAD_FILE` when the range leaves the file, `NETWORK` or `STORAGE` when reading fails, `ABORTED`.
   */
  read(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<Uint8Array>;
}
