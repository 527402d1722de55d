/**
 * Which records are fetched from a checkpoint next, and how many at a time: needed ones first, then expected ones, then
 * the rest; never more bytes under way than a kill may cost. Packs and digests what arrives.
 * Never writes to a store: who owns the queue commits what it hands over, and only then the next bytes are asked for.
 */
import { createAbort } from '../aborts';
import type { ByteSource } from '../checkpoint/byte-source';
import type { InstallRecord } from '../checkpoint/install-plan';
import { assert, EngineError } from '../errors';
import { computeDigest } from './record-digest';
import { readSlabs } from './slab-reader';

/** `needed`: something waits for it. `expected`: something will, probably. `rest`: to have it one day. */
export type Urgency = 'needed' | 'expected' | 'rest';

export interface FetchedRecord {
  readonly key: string;
  readonly bytes: Uint8Array;
  readonly digest: string;
}

export interface RecordQueueOptions {
  readonly source: ByteSource;
  readonly records: readonly InstallRecord[];
  /** Takes records for good; the bytes count as under way until it has. */
  readonly commit: (records: readonly FetchedRecord[]) => Promise<void>;
  /** Reads a record that is too large to be under way in one go; see large-record.ts. Null: there is nowhere to keep parts. */
  readonly readLarge: ((record: InstallRecord, signal: AbortSignal) => Promise<Uint8Array[]>) | null;
  /** What arrived in the last seconds; null while nothing is known. */
  readonly getBytesPerSecond: () => number | null;
  /** Source bytes of records that are read together. Default: by the rate. */
  readonly batchBytes?: number | undefined;
  /** Bytes that came from the source. */
  readonly onBytes: (bytes: number) => void;
}

interface Job {
  readonly record: InstallRecord;
  /** Position in the file. */
  readonly order: number;
  urgency: Urgency;
  /** Its bytes are there. */
  readonly arrived: Deferred<FetchedRecord>;
  /** It is committed. */
  readonly done: Deferred<void>;
}

interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

/** Most bytes that were asked for and are not committed: what a page that dies will ask for again. Under 4 MiB with gaps. */
const WINDOW_BYTES = 3.5 * 1024 * 1024;
/** On a slow line fewer, so that what is needed does not wait behind what is not: what comes in this time. */
const WINDOW_MS = 500;
const MIN_WINDOW_BYTES = 512 * 1024;
/** Records are read together up to this share of the window. */
const BATCH_SHARE = 0.25;
/** While something else uses the line, the rest takes no more than this share. */
const BEHIND_SHARE = 0.5;

export class RecordQueue {
  readonly #records: ReadonlyMap<string, { readonly record: InstallRecord; readonly order: number }>;
  readonly #waiting: Readonly<Record<Urgency, Map<string, Job>>> = {
    needed: new Map(),
    expected: new Map(),
    rest: new Map(),
  };
  readonly #running = new Map<string, Job>();
  readonly #closing = new AbortController();
  readonly #runs = new Set<Promise<void>>();
  #wayBytes = 0;
  #restBytes = 0;
  #holds = 0;
  #pumping = false;
  /** Whether the rest leaves most of the window to others. */
  isBehind = false;

  constructor(private readonly options: RecordQueueOptions) {
    this.#records = new Map(options.records.map((record, order) => [record.key, { record, order }]));
  }

  /** A record, packed, as soon as it is there; shared with other calls that asked for it. */
  fetch(key: string, urgency: Urgency): Promise<FetchedRecord> {
    return this.#add(key, urgency).arrived.promise;
  }

  /** Fetches records until all are committed. The first failure ends it; what was committed stays. */
  async fill(keys: readonly string[], signal?: AbortSignal): Promise<void> {
    const stop = () => this.#dropRest(createAbort(signal));
    signal?.addEventListener('abort', stop, { once: true });
    try {
      const jobs = keys.map((key) => this.#add(key, 'rest'));
      if (signal?.aborted) stop();
      await Promise.all(jobs.map(({ done }) => done.promise));
    } catch (error) {
      this.#dropRest(error);
      throw error;
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }

  /** Makes a record that is waited for more urgent. */
  hasten(key: string): void {
    if (this.#find(key)) this.#add(key, 'needed');
  }

  /** Keeps the rest back until the function that it returns is called: the line belongs to what is needed. */
  hold(): () => void {
    this.#holds++;
    let released = false;
    return () => {
      if (released) return;
      released = true;
      this.#holds--;
      this.#pump();
    };
  }

  /** Ends every request; whoever waits gets `ABORTED`. What is being committed is waited for. */
  async close(): Promise<void> {
    this.#closing.abort();
    const waiting = Object.values(this.#waiting).flatMap((jobs) => [...jobs.values()]);
    for (const job of waiting) fail(job, createClosedError());
    for (const jobs of Object.values(this.#waiting)) jobs.clear();
    await Promise.all(this.#runs);
  }

  #find(key: string): Job | undefined {
    const { needed, expected, rest } = this.#waiting;
    return this.#running.get(key) ?? needed.get(key) ?? expected.get(key) ?? rest.get(key);
  }

  #add(key: string, urgency: Urgency): Job {
    const known = this.#find(key);
    if (known) {
      if (RANKS[urgency] < RANKS[known.urgency]) {
        if (this.#waiting[known.urgency].delete(key)) this.#waiting[urgency].set(key, known);
        known.urgency = urgency;
        this.#pump();
      }
      return known;
    }
    const found = this.#records.get(key);
    assert(found, `record ${key} is in the plan`);
    const job: Job = { ...found, urgency, arrived: createDeferred(), done: createDeferred() };
    if (this.#closing.signal.aborted) fail(job, createClosedError());
    else this.#waiting[urgency].set(key, job);
    this.#pump();
    return job;
  }

  /** What nobody but a fill waits for is not asked for any more. */
  #dropRest(error: unknown): void {
    for (const job of this.#waiting.rest.values()) fail(job, error);
    this.#waiting.rest.clear();
  }

  /** Once per turn of the event loop's microtasks: calls that come together are read together. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    queueMicrotask(() => {
      this.#pumping = false;
      for (let batch = this.#takeBatch(); batch; batch = this.#takeBatch()) {
        const run = this.#run(batch).finally(() => this.#runs.delete(run));
        this.#runs.add(run);
      }
    });
  }

  #takeBatch(): Job[] | null {
    const urgency = URGENCIES.find((level) => this.#waiting[level].size > 0);
    if (urgency === undefined || (urgency === 'rest' && this.#holds > 0)) return null;
    const windowBytes = this.#getWindowBytes();
    const { batchBytes = windowBytes * BATCH_SHARE } = this.options;
    const waiting = this.#waiting[urgency].values();
    const batch: Job[] = [];
    let bytes = 0;
    // The rest is in the order in which it was asked for; of the others there are few.
    for (const job of urgency === 'rest' ? waiting : [...waiting].sort((a, b) => a.order - b.order)) {
      const jobBytes = getWayBytes(job.record);
      if (batch.length > 0 && bytes + jobBytes > batchBytes) break;
      batch.push(job);
      bytes += jobBytes;
    }
    // One batch may always go: a record larger than the window would wait for ever.
    if (this.#wayBytes > 0 && this.#wayBytes + bytes > windowBytes) return null;
    const isCrowding = this.isBehind && this.#restBytes > 0 && this.#restBytes + bytes > windowBytes * BEHIND_SHARE;
    if (urgency === 'rest' && isCrowding) return null;
    for (const job of batch) {
      this.#waiting[urgency].delete(job.record.key);
      this.#running.set(job.record.key, job);
    }
    return batch;
  }

  #getWindowBytes(): number {
    const bytesPerSecond = this.options.getBytesPerSecond() ?? 0;
    return Math.min(WINDOW_BYTES, Math.max(MIN_WINDOW_BYTES, (bytesPerSecond * WINDOW_MS) / 1000));
  }

  async #run(batch: readonly Job[]): Promise<void> {
    const bytes = batch.reduce((sum, { record }) => sum + getWayBytes(record), 0);
    const restBytes = batch[0]?.urgency === 'rest' ? bytes : 0;
    this.#wayBytes += bytes;
    this.#restBytes += restBytes;
    try {
      const fetched = await this.#read(batch);
      for (const [i, job] of batch.entries()) job.arrived.resolve(fetched[i] as FetchedRecord);
      await this.options.commit(fetched);
      for (const job of batch) job.done.resolve();
    } catch (error) {
      for (const job of batch) fail(job, this.#closing.signal.aborted ? createClosedError() : error);
    } finally {
      for (const job of batch) this.#running.delete(job.record.key);
      this.#wayBytes -= bytes;
      this.#restBytes -= restBytes;
      this.#pump();
    }
  }

  async #read(batch: readonly Job[]): Promise<FetchedRecord[]> {
    const { source, readLarge, onBytes } = this.options;
    const { signal } = this.#closing;
    const [first] = batch;
    const isLarge = first !== undefined && batch.length === 1 && isLargeRecord(first.record) && readLarge !== null;
    const buffers = isLarge
      ? await readLarge(first.record, signal)
      : await readSlabs(
          source,
          batch.flatMap(({ record }) => record.sourceRanges),
          signal,
          onBytes,
        );
    return Promise.all(
      batch.map(async ({ record }) => {
        const bytes = await record.pack(buffers.splice(0, record.sourceRanges.length), signal);
        return { key: record.key, bytes, digest: await computeDigest(bytes) };
      }),
    );
  }
}

const URGENCIES = ['needed', 'expected', 'rest'] as const;
const RANKS: Readonly<Record<Urgency, number>> = { needed: 0, expected: 1, rest: 2 };

export function getSourceBytes(record: InstallRecord): number {
  return record.sourceRanges.reduce((sum, range) => sum + range.lengthBytes, 0);
}

/** Whether a record is read and kept in parts. */
function isLargeRecord(record: InstallRecord): boolean {
  return getSourceBytes(record) > WINDOW_BYTES;
}

/** What a record has under way at a time; a large one in parts fills the window. */
function getWayBytes(record: InstallRecord): number {
  return Math.min(getSourceBytes(record), WINDOW_BYTES);
}

function fail(job: Job, error: unknown): void {
  job.arrived.reject(error);
  job.done.reject(error);
}

function createClosedError(): EngineError {
  return new EngineError('ABORTED', 'the model was unloaded while its records were being fetched');
}

function createDeferred<T>(): Deferred<T> {
  let resolve: Deferred<T>['resolve'] = () => {};
  let reject: Deferred<T>['reject'] = () => {};
  const promise = new Promise<T>((resolvePromise, rejectPromise) => {
    resolve = resolvePromise;
    reject = rejectPromise;
  });
  // Someone may wait for the bytes and no one for the commit, or the other way round.
  promise.catch(() => {});
  return { promise, resolve, reject };
}
