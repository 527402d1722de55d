/**
 * The small interface that every place with bytes at rest implements.
 * A model is a set of records under one id, and a manifest that is written last: without it there is no model.
 */
import type { ModelManifest } from '../checkpoint/manifest';

/** Where models are kept in the browser, or for the visit (`memory`). */
export type StoreKind = 'indexeddb' | 'opfs' | 'memory';

/** `auto`: the faster one of `opfs` and `indexeddb`, as measured once on this machine; `memory` where there is neither. */
export type StoreChoice = StoreKind | 'auto';

/** A record to write, and the SHA-256 (hex) that is noted with it. */
export type RecordEntry = readonly [key: string, bytes: Uint8Array, digest?: string];

/** What is known of a model whose install has begun: its records are there or not, one by one. */
export interface ModelDraft {
  readonly format: 1;
  readonly modelId: string;
  readonly name: string;
  readonly sourceBytes: number;
  /** Of all records together. */
  readonly neededBytes: number;
  /** How many they are. */
  readonly records: number;
  /** Name and version of the file that its records were made of; of another version, none of them counts. */
  readonly sourceName: string;
  readonly sourceVersion: string;
}

/** A record that will be written, for stores that prepare its place. */
export interface RecordSize {
  readonly key: string;
  readonly sizeBytes: number;
}

/** Bytes at rest: models by id, as records by key. */
export interface ModelStore {
  readonly kind: StoreKind;
  /** Manifests of the models that are installed whole. */
  readModels(): Promise<ModelManifest[]>;
  /** The manifest of one installed model, or undefined. */
  readManifest(modelId: string): Promise<ModelManifest | undefined>;
  /** Models whose install has begun and is not committed. */
  readDrafts(): Promise<ModelDraft[]>;
  /** The draft of one model, or undefined. */
  readDraft(modelId: string): Promise<ModelDraft | undefined>;
  /**
   * Begins an install, or replaces what is noted of it.
   * @param records what will be written with a digest; records that are written already are lost when they are announced.
   */
  writeDraft(draft: ModelDraft, records?: readonly RecordSize[]): Promise<void>;
  /** Commits an install: after this the model exists, and its draft does not. */
  writeManifest(manifest: ModelManifest): Promise<void>;
  /**
   * Reads one record whole.
   * @throws EngineError `STORAGE` when it is missing or cannot be read.
   */
  readRecord(modelId: string, key: string): Promise<Uint8Array>;
  /**
   * Reads one record whole into memory that is given, with no copy between; absent where a store cannot.
   * @param target as long as the record.
   * @returns false, with `target` undefined, where this record has to be read by `readRecord`.
   * @throws EngineError as `readRecord`.
   */
  readRecordInto?(modelId: string, key: string, target: Uint8Array<ArrayBuffer>): Promise<boolean>;
  /**
   * Writes records, all or none where the store has transactions.
   * @throws EngineError `STORAGE_FULL` or `STORAGE`.
   */
  writeRecords(modelId: string, records: readonly RecordEntry[]): Promise<void>;
  /** Records that were written with a digest, by key. A record is there before its digest is. */
  readDigests(modelId: string): Promise<ReadonlyMap<string, string>>;
  /** Removes records, and their digests first. */
  removeRecords(modelId: string, keys: readonly string[]): Promise<void>;
  /** What was learnt about a model (predictors, calibration): plain data under a name, or undefined. */
  readState(modelId: string, name: string): Promise<unknown>;
  /** Keeps structured-cloneable data with a model; it goes when the model is removed. */
  writeState(modelId: string, name: string, value: unknown): Promise<void>;
  /** Removes a model: the manifest first, then its records; also what an unfinished install left. */
  removeModel(modelId: string): Promise<void>;
  /** Lets go of what is held open to read and write a model; its next use opens it again. */
  release(modelId: string): Promise<void>;
  /** Lets go of everything; the store is not used again. */
  close(): Promise<void>;
}

/** Progress of an install, in bytes of the source file. */
export interface InstallProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** What arrived in the last seconds; null while nothing is known. */
  readonly bytesPerSecond: number | null;
  /** Until the total is reached, at that rate. */
  readonly remainingMs: number | null;
}

/** Whether this version of webmoe wrote the manifest; one of another format counts as not installed. */
export function isCurrentManifest(manifest: { readonly format: number }): boolean {
  return manifest.format === 4;
}
