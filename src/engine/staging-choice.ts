/**
 * Whether pages are read from the store straight into mapped GPU memory: asked for, or measured once per store, adapter and
 * size of pages, and remembered in the store. Touches speed only. Owns that measurement; the ring is gpu/staging-ring.ts.
 */
import { getPageKey, type ModelManifest } from '../checkpoint/manifest';
import { EngineError } from '../errors';
import type { GpuDevice } from '../gpu/device';
import type { GpuMemory } from '../gpu/memory';
import { StagingRing } from '../gpu/staging-ring';
import type { ModelStore, StoreChoice } from '../store/model-store';
import type { RecordReader } from '../store/verified-reader';
import type { StagingChoice } from './engine';
import { getStagingRequests } from './memory-plan';

const choices: readonly StagingChoice[] = ['auto', 'on', 'off'];

/** Buffers of one page each: a faulting layer misses one to three pages mostly, and a buffer is mapped again behind its copy. */
const STAGING_PAGES = 4;

const STATE_ID = 'webmoe';
const STATE_NAME = 'staging';
const VERSION = 1;
const ROUNDS = 5;
/** Staging is chosen where it takes at most this share of the other way's time: it takes memory too. */
const WORTH_SHARE = 0.9;

interface StagingState {
  readonly version: typeof VERSION;
  /** By adapter and size of pages. */
  readonly isFaster: Readonly<Record<string, boolean>>;
}

export interface StagingTarget {
  readonly device: GpuDevice;
  /** With nothing in it yet; the trial takes no more than is planned. */
  readonly memory: GpuMemory;
  readonly manifest: ModelManifest;
  readonly reader: RecordReader;
  /** The store that `reader` reads, where what is measured is remembered; null: it is not measured. */
  readonly notes: Pick<ModelStore, 'readState' | 'writeState'> | null;
  /** Whether the model will be paged: otherwise nothing is measured for it. */
  readonly isPaged: boolean;
  readonly onWarning: (message: string) => void;
}

/**
 * How many staging buffers the plan gets.
 * @throws EngineError `BAD_ARGUMENT` for a choice that there is not.
 */
export async function chooseStagingPages(choice: StagingChoice, target: StagingTarget): Promise<number> {
  checkChoice(choice);
  if (choice === 'off') return 0;
  if (!target.reader.canReadInto) {
    if (choice === 'on') {
      target.onWarning(
        'staging "on" has nothing to do: this model is not in a store that reads into given memory; use the opfs store',
      );
    }
    return 0;
  }
  return choice === 'on' || (await isFaster(target)) ? STAGING_PAGES : 0;
}

/**
 * The same before a load: what is known of it without a device and a store.
 * @param store what the model is kept in; null: it is read where it is.
 * @returns `pagesIfFaster`: how many where a trial, which only a load makes, finds that staging is faster.
 * @throws EngineError `BAD_ARGUMENT` for a choice that there is not.
 */
export function foreseeStagingPages(
  choice: StagingChoice,
  store: StoreChoice | null,
): { readonly pages: number; readonly pagesIfFaster: number } {
  checkChoice(choice);
  const none = { pages: 0, pagesIfFaster: 0 };
  if (choice === 'off' || store === null || store === 'indexeddb') return none;
  const isTried = store === 'auto' || (store === 'opfs' && choice === 'auto');
  if (isTried) return { pages: 0, pagesIfFaster: STAGING_PAGES };
  return choice === 'on' ? { pages: STAGING_PAGES, pagesIfFaster: STAGING_PAGES } : none;
}

function checkChoice(choice: StagingChoice): void {
  if (choices.includes(choice)) return;
  throw new EngineError('BAD_ARGUMENT', `staging "${choice}" is unknown: give one of ${choices.join(', ')}`);
}

async function isFaster({
  device,
  memory,
  manifest,
  reader,
  notes,
  isPaged,
  onWarning,
}: StagingTarget): Promise<boolean> {
  if (!notes) return false;
  const pageBytes = manifest.pageLayouts.map((layout) => layout.pageBytes);
  const largestBytes = Math.max(...pageBytes);
  const name = `${device.description}, pages of 2^${Math.round(Math.log2(largestBytes))} bytes`;
  const onForgotten = (error: unknown): void =>
    onWarning(`whether staging is faster could not be remembered: ${(error as Error).message}`);
  const state = (await notes.readState(STATE_ID, STATE_NAME).catch(onForgotten)) as StagingState | undefined;
  const known = state?.version === VERSION ? state.isFaster : {};
  const remembered = known[name];
  if (remembered !== undefined || !isPaged) return remembered ?? false;
  const group = pageBytes.indexOf(largestBytes);
  const keys = Array.from({ length: manifest.config.moe.experts }, (_, expert) => getPageKey(group, expert))
    .filter((key) => reader.has(key))
    .slice(0, STAGING_PAGES);
  // At the first visit the pages may still be on their way: the next one measures.
  if (keys.length < STAGING_PAGES) return false;
  const measured = await measure(device, memory, reader, keys, largestBytes);
  if (measured === null) return false;
  const next: StagingState = { version: VERSION, isFaster: { ...known, [name]: measured } };
  await notes.writeState(STATE_ID, STATE_NAME, next).catch(onForgotten);
  return measured;
}

/** A few pages from the store to the GPU, one way after the other; null where that failed, which is said when it matters. */
async function measure(
  device: GpuDevice,
  memory: GpuMemory,
  reader: RecordReader,
  keys: readonly string[],
  pageBytes: number,
): Promise<boolean | null> {
  const { queue } = device.handle;
  const ring = new StagingRing(device);
  try {
    const [slot] = await memory.allocate([{ label: 'trial slot', sizeBytes: pageBytes, kind: 'storage' }]);
    const buffers = await memory.allocate(getStagingRequests(keys.length, pageBytes));
    ring.setBuffers(buffers);
    if (!slot) return null;
    const throughArrays = async (): Promise<void> => {
      for (const key of keys) queue.writeBuffer(slot, 0, (await reader.read(key)) as Uint8Array<ArrayBuffer>);
    };
    const throughRing = async (): Promise<void> => {
      for (const key of keys) {
        const range = ring.take(pageBytes);
        if (!range || !(await reader.readInto(key, range.bytes))) throw new Error('a page was not read');
        ring.copy(range, slot, 0);
      }
      ring.submit();
    };
    const time = async (upload: () => Promise<void>): Promise<number> => {
      await ring.settle();
      const startMs = performance.now();
      await upload();
      await queue.onSubmittedWorkDone();
      return performance.now() - startMs;
    };
    // Checks the digests, once and for all.
    await throughArrays();
    const arrayMs: number[] = [];
    const ringMs: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      arrayMs.push(await time(throughArrays));
      ringMs.push(await time(throughRing));
    }
    return getMedian(ringMs) < WORTH_SHARE * getMedian(arrayMs);
  } catch {
    return null;
  } finally {
    memory.freeAll();
  }
}

function getMedian(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
