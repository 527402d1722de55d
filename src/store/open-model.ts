/**
 * From a checkpoint to the records of its model: planned, locked against other tabs, continued where an earlier install
 * ended. Owns the lock, the draft and what goes on behind; model-records.ts has the records.
 * Never removes what an install of the same file has stored, whatever ends it.
 */
import type { ByteSource } from '../checkpoint/byte-source';
import { type CheckpointFiles, createLoneFile } from '../checkpoint/checkpoint-files';
import { buildInstallPlan, type InstallPlan } from '../checkpoint/install-plan';
import type { ModelManifest } from '../checkpoint/manifest';
import { type ReadOptions, readCheckpoint } from '../checkpoint/read-checkpoint';
import { EngineError } from '../errors';
import { type ModelLock, tryLock, waitForLock } from './model-lock';
import { noteOwned, readOwned, removeUnowned, removeWithOwned } from './model-notes';
import { getNeededBytes, ModelRecords } from './model-records';
import type { InstallProgress, ModelStore } from './model-store';
import { pause } from './pause';
import { requireDigests } from './record-digest';
import { getVersion, rememberFiles } from './remembered-source';
import { getRequestId, REQUEST_STATE } from './request-note';
import { isStorageError, isStorageFull } from './storage-errors';

export interface OpenModelOptions extends ReadOptions {
  /** Bytes of the source file; never goes back, and reaches the total when the model is committed. */
  readonly onProgress?: ((progress: InstallProgress) => void) | undefined;
  /** Told what the user should know and what did not stop the install. */
  readonly onWarning?: ((message: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Sees what would be installed before anything of it is written; throws to refuse it. */
  readonly onPlan?: ((plan: InstallPlan) => void) | undefined;
  /** Most bytes of this model that the store may hold. Default: no limit but the browser's. */
  readonly storeBudgetBytes?: number | undefined;
  /** What was asked for, in any words that name it again: noted with the model, see installed-copy.ts. */
  readonly request?: string | undefined;
  /** Source bytes of the records that are fetched and written together. Default: by the rate, up to about 1 MiB. */
  readonly batchBytes?: number | undefined;
}

/** A first question that comes at once has the line to itself. */
const BEHIND_DELAY_MS = 2000;
/** Pauses before the download behind a running model goes on after a failure. */
const RETRY_DELAYS_MS = [2000, 5000, 15_000, 60_000];

export class OpenModel {
  #lock: ModelLock | null;
  #behind: Promise<void> | null = null;
  readonly #closing = new AbortController();

  constructor(
    readonly plan: InstallPlan,
    readonly records: ModelRecords,
    /** Whether the store lacked some or all of the model; false without a store. */
    readonly isNew: boolean,
    private readonly store: ModelStore | null,
    lock: ModelLock | null,
  ) {
    this.#lock = lock;
  }

  /**
   * Fetches all that is missing and commits the model.
   * @throws EngineError `NETWORK`, `STORAGE_FULL`, `STORAGE`, `BAD_FILE`, `ABORTED`; what was stored stays.
   */
  async finish(signal?: AbortSignal): Promise<ModelManifest> {
    const manifest = await this.records.finish(signal);
    await this.#shareLock();
    return manifest;
  }

  /** Goes on installing while the model is used; never throws, what goes wrong is a warning of the records. */
  finishBehind(): void {
    this.records.stayBehind();
    this.#behind ??= this.#finishBehind();
  }

  /** Ends every request and lets other tabs have the model. */
  async close(): Promise<void> {
    this.#closing.abort();
    try {
      await this.records.close();
      await this.#behind;
      await this.store?.release(this.plan.modelId);
    } finally {
      this.#lock?.release();
      this.#lock = null;
    }
  }

  async #finishBehind(): Promise<void> {
    const { signal } = this.#closing;
    await pause(BEHIND_DELAY_MS, signal);
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        await this.finish(signal);
        return;
      } catch (error) {
        if (signal.aborted) return;
        const isPassing = error instanceof EngineError && error.code === 'NETWORK';
        const delayMs = RETRY_DELAYS_MS[Math.min(failures, RETRY_DELAYS_MS.length - 1)] as number;
        const next = isPassing ? `it goes on in ${delayMs / 1000} s` : 'what is missing is read when it is needed';
        this.records.warn(`the download of "${this.plan.name}" stopped, ${next}: ${(error as Error).message}`);
        if (!isPassing) return;
        await pause(delayMs, signal);
      }
    }
  }

  /** An installed model is there for every tab. */
  async #shareLock(): Promise<void> {
    if (!this.#lock || !this.store || this.#closing.signal.aborted) return;
    this.#lock.release();
    const request = { storeKind: this.store.kind, modelId: this.plan.modelId, mode: 'shared' } as const;
    const shared = await waitForLock(request, this.#closing.signal);
    // It may have been granted in the moment in which the model was closed.
    if (this.#closing.signal.aborted) shared.release();
    else this.#lock = shared;
  }
}

/**
 * Opens the model that a checkpoint holds, installed or not: its records can be read at once.
 * @param input a lone GGUF file, or several files.
 * @param store where it is kept; null: nowhere, records are made from the file each time.
 * @throws EngineError `BAD_FILE`, `UNSUPPORTED`, `NETWORK`, `STORAGE_FULL`, `STORAGE`, `ABORTED`.
 */
export async function openModel(
  input: ByteSource | CheckpointFiles,
  store: ModelStore | null,
  options: OpenModelOptions = {},
): Promise<OpenModel> {
  requireDigests();
  const files = 'find' in input ? input : createLoneFile(input);
  const remembered = rememberFiles(files, store, options.onWarning);
  try {
    const checkpoint = await readCheckpoint(remembered, options, options.signal);
    remembered.settle();
    const plan = buildInstallPlan(checkpoint);
    if (store) return await openStored(plan, checkpoint.source, remembered.cacheIds, store, options);
    options.onPlan?.(plan);
    return openUnstored(plan, checkpoint.source);
  } catch (error) {
    // What was kept of a file that is no model would be nobody's.
    if (store && error instanceof EngineError && REFUSALS.has(error.code))
      await removeUnowned(store, remembered.cacheIds);
    throw error;
  }
}

/** What a file is refused with, that no other time would mend. */
const REFUSALS: ReadonlySet<string> = new Set(['BAD_FILE', 'UNSUPPORTED', 'BAD_ARGUMENT']);

/** @param full why nothing is kept, where it should be. */
function openUnstored(plan: InstallPlan, source: ByteSource, full?: EngineError): OpenModel {
  const records = new ModelRecords({ plan, source, store: null, digests: new Map(), full }, null);
  return new OpenModel(plan, records, false, null, null);
}

async function openStored(
  plan: InstallPlan,
  source: ByteSource,
  cacheIds: readonly string[],
  store: ModelStore,
  options: OpenModelOptions,
): Promise<OpenModel> {
  const { onProgress, storeBudgetBytes, batchBytes } = options;
  const { lock, manifest } = await lockModel(plan, store, options);
  try {
    if (!manifest) options.onPlan?.(plan);
    const digests = manifest
      ? new Map(Object.entries(manifest.digests))
      : await readBegun(plan, source, cacheIds, store, options);
    if (digests instanceof EngineError) {
      await store.release(plan.modelId);
      lock.release();
      return openUnstored(plan, source, digests);
    }
    await noteSources(plan, cacheIds, store, options);
    const records = new ModelRecords(
      { plan, source, store, digests, storeBudgetBytes, batchBytes, onProgress },
      manifest ?? null,
    );
    return new OpenModel(plan, records, manifest === undefined, store, lock);
  } catch (error) {
    await store.release(plan.modelId).catch(() => {});
    lock.release();
    throw error;
  }
}

/** Removes a model and what is remembered of its source. @throws EngineError `BUSY` while another tab uses it. */
export async function removeModel(store: ModelStore, modelId: string): Promise<void> {
  const lock = await tryLock({ storeKind: store.kind, modelId, mode: 'exclusive' });
  if (!lock) {
    throw new EngineError(
      'BUSY',
      `model ${modelId} is in use by another tab of this site: unload it there or close that tab, then remove it`,
    );
  }
  try {
    await removeWithOwned(store, modelId);
  } finally {
    lock.release();
  }
}

/** Notes what is kept of the model's files, and which request led to it. A store that fails is a warning: the model is there. */
async function noteSources(
  plan: InstallPlan,
  cacheIds: readonly string[],
  store: ModelStore,
  { request, signal, onWarning }: OpenModelOptions,
): Promise<void> {
  const { modelId, name } = plan;
  try {
    const requestId = request === undefined ? null : await getRequestId(request);
    await noteOwned(store, modelId, requestId === null ? cacheIds : [...cacheIds, requestId], signal);
    if (requestId === null || (await store.readState(requestId, REQUEST_STATE)) === modelId) return;
    await store.writeState(requestId, REQUEST_STATE, modelId);
  } catch (error) {
    if (!isStorageError(error)) throw error;
    await removeUnowned(store, cacheIds);
    onWarning?.(`where "${name}" came from is not noted, so that it is not found while that is down: ${error.message}`);
  }
}

/** Shares a model that is installed, has one that is not alone. */
async function lockModel(
  plan: InstallPlan,
  store: ModelStore,
  { onWarning, signal }: OpenModelOptions,
): Promise<{ lock: ModelLock; manifest: ModelManifest | undefined }> {
  const request = { storeKind: store.kind, modelId: plan.modelId };
  for (;;) {
    const mode = (await store.readManifest(plan.modelId)) ? 'shared' : 'exclusive';
    let lock = await tryLock({ ...request, mode });
    if (!lock) {
      onWarning?.(`"${plan.name}" is being installed by another tab of this site; waiting for it`);
      lock = await waitForLock({ ...request, mode }, signal);
    }
    try {
      // Read again: what it was may have changed while the lock was waited for.
      const manifest = await store.readManifest(plan.modelId);
      if ((manifest !== undefined) === (mode === 'shared')) return { lock, manifest };
    } catch (error) {
      lock.release();
      throw error;
    }
    lock.release();
  }
}

/**
 * Digests of what an install that did not end has stored; begins one where there is none, or one of another version.
 * The error, where there is no room to begin one.
 */
async function readBegun(
  plan: InstallPlan,
  source: ByteSource,
  cacheIds: readonly string[],
  store: ModelStore,
  { onWarning, signal }: OpenModelOptions,
): Promise<ReadonlyMap<string, string> | EngineError> {
  const sourceVersion = getVersion(source);
  const begun = await store.readDraft(plan.modelId);
  if (begun?.format === 1 && begun.sourceVersion === sourceVersion) return store.readDigests(plan.modelId);
  if (begun) {
    const from = `${begun.sourceName} (${begun.sourceVersion})`;
    onWarning?.(
      `the install of "${plan.name}" begins anew: the one before was of another version of its file, ${from}`,
    );
  }
  const draft = {
    format: 1,
    modelId: plan.modelId,
    name: plan.name,
    sourceBytes: plan.sourceBytes,
    neededBytes: getNeededBytes(plan),
    records: plan.records.length,
    sourceName: source.name,
    sourceVersion,
  } as const;
  // What went with the one before goes with this one: other sources may lead to it still.
  const owned = await readOwned(store, plan.modelId);
  try {
    await store.removeModel(plan.modelId);
    await store.writeDraft(
      draft,
      plan.records.map(({ key, sizeBytes }) => ({ key, sizeBytes })),
    );
    if (owned.length > 0) await noteOwned(store, plan.modelId, owned, signal);
    return new Map();
  } catch (error) {
    await removeUnowned(store, [plan.modelId, ...owned, ...cacheIds]);
    if (isStorageFull(error)) return error;
    throw error;
  }
}
