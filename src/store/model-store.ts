/**
 * The small interface that every place with bytes at rest implements.
 * A model is a set of records under one id, and a manifest that is written last: without it there is no model.
 */
import type { ModelManifest } from '../checkpoint/manifest';

export type StoreKind = 'indexeddb' | 'memory';

export interface ModelStore {
  readonly kind: StoreKind;
  /** Manifests of the models that are installed whole. */
  readModels(): Promise<ModelManifest[]>;
  /** The manifest of one installed model, or undefined. */
  readManifest(modelId: string): Promise<ModelManifest | undefined>;
  /** Commits an install: after this the model exists. */
  writeManifest(manifest: ModelManifest): Promise<void>;
  /**
   * Reads one record whole.
   * @throws EngineError `STORAGE` when it is missing or cannot be read.
   */
  readRecord(modelId: string, key: string): Promise<Uint8Array>;
  /**
   * Writes records, all or none where the store has transactions.
   * @throws EngineError `STORAGE_FULL` or `STORAGE`.
   */
  writeRecords(modelId: string, records: ReadonlyArray<readonly [key: string, bytes: Uint8Array]>): Promise<void>;
  /** What was learnt about a model (predictors, calibration): plain data under a name, or undefined. */
  readState(modelId: string, name: string): Promise<unknown>;
  /** Keeps structured-cloneable data with a model; it goes when the model is removed. */
  writeState(modelId: string, name: string, value: unknown): Promise<void>;
  /** Removes a model: the manifest first, then its records; also what an unfinished install left. */
  removeModel(modelId: string): Promise<void>;
  close(): Promise<void>;
}

/** Progress of an install, in bytes of the source file. */
export interface InstallProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

/** Whether this version of webmoe wrote the manifest; one of another format counts as not installed. */
export function isCurrentManifest(manifest: { readonly format: number }): boolean {
  return manifest.format === 2;
}
