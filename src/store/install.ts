/**
 * Installs a model: reads a checkpoint's ranges, packs and digests its records, writes them, commits the manifest last.
 * Never leaves a model half installed: what fails or is aborted is removed again.
 */
import type { ByteSource } from '../checkpoint/byte-source';
import { type CheckpointFiles, createLoneFile } from '../checkpoint/checkpoint-files';

import { buildInstallPlan, buildManifest, type InstallPlan, type InstallRecord } from '../checkpoint/install-plan';
import type { ModelManifest } from '../checkpoint/manifest';
import { type ReadOptions, readCheckpoint } from '../checkpoint/read-checkpoint';
import { EngineError } from '../errors';
import type { InstallProgress, ModelStore } from './model-store';
import { computeDigest, requireDigests } from './record-digest';
import { readSlabs } from './slab-reader';
import { throwIfAborted } from './source-checks';

export interface InstallOptions extends ReadOptions {
  /** Bytes of the source file; never goes back, and reaches the total when the model is committed. */
  readonly onProgress?: ((progress: InstallProgress) => void) | undefined;
  /** Told what the user should know and what did not stop the install. */
  readonly onWarning?: ((message: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Sees what would be installed before anything is written; throws to refuse it. */
  readonly onPlan?: ((plan: InstallPlan) => void) | undefined;
  /**
   * Source bytes of the records that are read, packed and written together. Default 16 MiB. One group is written while
   * the next is read, so an install holds about four times this, or four times the largest record.
   */
  readonly groupBytes?: number | undefined;
}

export interface InstallResult {
  readonly manifest: ModelManifest;
  /** False when the model was in the store already. */
  readonly installed: boolean;
}

const DEFAULT_GROUP_BYTES = 16 * 1024 * 1024;

/**
 * Installs the model that a GGUF file or a folder holds, unless the store has it.
 * @param input a lone GGUF file, or several files.
 * @throws EngineError `BAD_FILE`, `UNSUPPORTED`, `NETWORK`, `STORAGE_FULL`, `STORAGE`, `ABORTED`.
 */
export async function installModel(
  input: ByteSource | CheckpointFiles,
  store: ModelStore,
  options: InstallOptions = {},
): Promise<InstallResult> {
  requireDigests();
  const files = 'find' in input ? input : createLoneFile(input);
  const checkpoint = await readCheckpoint(files, options, options.signal);
  const { source } = checkpoint;
  const known = await store.readManifest(checkpoint.modelId);
  if (known) return { manifest: known, installed: false };
  const plan = buildInstallPlan(checkpoint);
  options.onPlan?.(plan);
  return withInstallLock(plan, store, options, async () => {
    const meanwhile = await store.readManifest(plan.modelId);
    if (meanwhile) return { manifest: meanwhile, installed: false };
    // what an install left that a closed tab or a crash ended, or one of another manifest format
    await store.removeModel(plan.modelId);
    try {
      const digests = await writeRecords(source, plan, store, options);
      const manifest = buildManifest(plan, digests);
      throwIfAborted(options.signal, `installing "${plan.name}"`);
      await store.writeManifest(manifest);
      options.onProgress?.({ doneBytes: source.sizeBytes, totalBytes: source.sizeBytes });
      return { manifest, installed: true };
    } catch (error) {
      try {
        await store.removeModel(plan.modelId);
      } catch (leftover) {
        const why = leftover instanceof Error ? leftover.message : String(leftover);
        options.onWarning?.(`what was written of "${plan.name}" stays until its next install: ${why}`);
      }
      throw addNeed(error, plan);
    }
  });
}

/** Writes all records of the plan and returns their digests by key. */
async function writeRecords(
  source: ByteSource,
  plan: InstallPlan,
  store: ModelStore,
  { onProgress, signal, groupBytes = DEFAULT_GROUP_BYTES }: InstallOptions,
): Promise<Record<string, string>> {
  const totalBytes = source.sizeBytes;
  let readBytes = 0;
  const onBytes = (bytes: number) => {
    readBytes += bytes;
    // the total is for the commit, also where two records are made of the same bytes
    onProgress?.({ doneBytes: Math.min(readBytes, totalBytes - 1), totalBytes });
  };
  const digests: Record<string, string> = {};
  const groups = groupRecords(plan.records, groupBytes);
  const failure = new AbortController();
  const anySignal = signal ? AbortSignal.any([signal, failure.signal]) : failure.signal;
  const startReading = (group: readonly InstallRecord[] | undefined) => {
    const slabs = group?.flatMap((record) => record.sourceRanges) ?? [];
    const reading = readSlabs(source, slabs, anySignal, onBytes);
    // its failure counts when its turn comes, and not at all when an earlier group fails
    reading.catch(() => undefined);
    return reading;
  };
  try {
    let reading = startReading(groups[0]);
    for (const [i, group] of groups.entries()) {
      const buffers = await reading;
      reading = startReading(groups[i + 1]);
      const packed = group.map((record) => {
        const ranges = buffers.splice(0, record.sourceRanges.length);
        return [record.key, record.pack(ranges)] as const;
      });
      await Promise.all(
        packed.map(async ([key, bytes]) => {
          digests[key] = await computeDigest(bytes);
        }),
      );
      throwIfAborted(signal, `installing "${plan.name}"`);
      await store.writeRecords(plan.modelId, packed);
    }
    return digests;
  } finally {
    failure.abort();
  }
}

/** Groups of records up to `groupBytes` of source bytes each; a larger record is a group of its own. */
function groupRecords(records: readonly InstallRecord[], groupBytes: number): InstallRecord[][] {
  const groups: InstallRecord[][] = [];
  let filledBytes = Number.POSITIVE_INFINITY;
  for (const record of records) {
    const recordBytes = record.sourceRanges.reduce((sum, range) => sum + range.lengthBytes, 0);
    if (filledBytes + recordBytes > groupBytes) {
      groups.push([]);
      filledBytes = 0;
    }
    groups.at(-1)?.push(record);
    filledBytes += recordBytes;
  }
  return groups;
}

/** A full store says what one write needed; the user wants to know what the model needs. */
function addNeed(error: unknown, plan: InstallPlan): unknown {
  if (!(error instanceof EngineError) || error.code !== 'STORAGE_FULL') return error;
  const neededBytes = plan.records.reduce((sum, record) => sum + record.sizeBytes, 0);
  const message = `"${plan.name}" needs ${neededBytes} bytes of storage, and they are not there: ${error.message}`;
  return new EngineError('STORAGE_FULL', message, { cause: error });
}

/** Lets one tab at a time install a model. Memory is not shared between tabs, and Node 20 has no locks. */
async function withInstallLock<T>(
  plan: InstallPlan,
  store: ModelStore,
  { onWarning, signal }: InstallOptions,
  run: () => Promise<T>,
): Promise<T> {
  const locks = globalThis.navigator?.locks;
  if (locks === undefined || store.kind === 'memory') return run();
  const lockName = `webmoe/install/${store.kind}/${plan.modelId}`;
  const atOnce = await locks.request(lockName, { ifAvailable: true }, async (lock) =>
    lock === null ? undefined : { result: await run() },
  );
  if (atOnce) return atOnce.result;
  onWarning?.(`"${plan.name}" is being installed by another tab of this site; waiting for it`);
  try {
    return await locks.request(lockName, signal ? { signal } : {}, run);
  } catch (error) {
    throwIfAborted(signal, `waiting to install "${plan.name}"`);
    throw error;
  }
}
