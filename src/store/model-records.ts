/**
 * The records of one model for those who use it, wherever they are: in the store, or still in the checkpoint.
 * Owns which records are stored, and the counters of both places. What is missing is fetched, used and stored; what was
 * stored and is lost or damaged is fetched again. Never knows what a record is for.
 */
import { throwIfAborted } from '../aborts';
import type { ByteSource } from '../checkpoint/byte-source';
import { buildManifest, type InstallPlan, type InstallRecord } from '../checkpoint/install-plan';
import type { ModelManifest } from '../checkpoint/manifest';
import { assert, EngineError } from '../errors';
import { listPartKeys, PART_BYTES, PART_PREFIX, readInParts } from './large-record';
import type { InstallProgress, ModelStore } from './model-store';
import { type FetchedRecord, getSourceBytes, RecordQueue, type Urgency } from './record-queue';
import { TransferRate } from './transfer-rate';
import { createRecordCounters, createVerifiedReader, type RecordReader, type VerifiedReader } from './verified-reader';

export interface ModelRecordsOptions {
  readonly plan: InstallPlan;
  readonly source: ByteSource;
  /** Null: nothing is kept, every record is made from the source each time. */
  readonly store: ModelStore | null;
  /** Of the records that are in the store, and of parts of others. */
  readonly digests: ReadonlyMap<string, string>;
  /** Why there is no store where there should be one: what was to be kept is refused with it, and read all the same. */
  readonly full?: EngineError | undefined;
  /** Most bytes of this model that the store may hold, parts included; what is beyond is used and not kept. */
  readonly storeBudgetBytes?: number | undefined;
  readonly batchBytes?: number | undefined;
  /** Bytes of the source file; never goes back, and reaches the total when the model is committed. */
  readonly onProgress?: ((progress: InstallProgress) => void) | undefined;
}

/** What a record may not be stored for: trying again with the same bytes would end the same. */
const REFUSALS: ReadonlySet<string> = new Set(['STORAGE_FULL', 'CORRUPT']);

export class ModelRecords implements RecordReader {
  readonly counters = createRecordCounters();
  readonly #plan: InstallPlan;
  readonly #source: ByteSource;
  readonly #store: ModelStore | null;
  readonly #stored: VerifiedReader | null;
  readonly #records: ReadonlyMap<string, InstallRecord>;
  readonly #queue: RecordQueue;
  readonly #digests: Map<string, string>;
  /** Digests of parts, by their keys. */
  readonly #parts: Map<string, string>;
  readonly #missing: Set<string>;
  /** Digests of records that were lost: what takes their place has to have them. */
  readonly #lost = new Map<string, string>();
  readonly #rate = new TransferRate(performance.now());
  #storedBytes = 0;
  /** Source bytes of what is stored, and of what has come and is not stored yet. */
  #doneBytes = 0;
  #warnings: string[] = [];
  /** Set once the store takes no more. */
  #full: EngineError | null = null;
  #committed: ModelManifest | null;

  /** @param committed the model's manifest, where the store has one. */
  constructor(
    private readonly options: ModelRecordsOptions,
    committed: ModelManifest | null,
  ) {
    const { plan, source, store, digests } = options;
    this.#plan = plan;
    this.#source = source;
    this.#store = store;
    this.#committed = committed;
    if (options.full) this.#noteFull(options.full);
    this.#digests = new Map([...digests].filter(([key]) => !key.startsWith(PART_PREFIX)));
    this.#parts = new Map([...digests].filter(([key]) => key.startsWith(PART_PREFIX)));
    this.#stored = store && createVerifiedReader(store, { ...plan, digests: {} }, (key) => this.#digests.get(key));
    this.#records = new Map(plan.records.map((record) => [record.key, record]));
    this.#missing = new Set(plan.records.flatMap(({ key }) => (digests.has(key) ? [] : [key])));
    for (const record of plan.records) {
      if (this.#missing.has(record.key)) continue;
      this.#storedBytes += record.sizeBytes;
      this.#doneBytes += getSourceBytes(record);
    }
    this.#queue = new RecordQueue({
      source,
      records: plan.records,
      batchBytes: options.batchBytes,
      getBytesPerSecond: () => this.#rate.getBytesPerSecond(performance.now()),
      commit: (records) => this.#commit(records),
      onBytes: (bytes) => this.#noteBytes(bytes, true),
      readLarge:
        store &&
        ((record, signal) => {
          const parts = { store, modelId: plan.modelId, digests: this.#parts, keeps: this.#hasRoomForParts(record) };
          const onFull = (error: EngineError) => this.#noteFull(error);
          return readInParts(record, source, { ...parts, onFull }, signal, (bytes, isNew) =>
            this.#noteBytes(bytes, isNew),
          );
        }),
    });
  }

  /** Without the digests of what is missing. */
  get manifest(): ModelManifest {
    return this.#committed ?? buildManifest(this.#plan, this.#listDigests());
  }

  /** Whether the store has the whole model. */
  get isCommitted(): boolean {
    return this.#committed !== null;
  }

  /** Whether every record can be had without a network. */
  get isLocal(): boolean {
    return this.#missing.size === 0 || !this.#source.isRemote;
  }

  get storedBytes(): number {
    return this.#storedBytes;
  }

  get canReadInto(): boolean {
    return this.#stored?.canReadInto ?? false;
  }

  has(key: string): boolean {
    return this.#digests.has(key);
  }

  /** Keys of the records that are not stored, in file order. */
  listMissing(): string[] {
    return [...this.#missing];
  }

  /** What went wrong since the last call and stopped nothing. */
  takeWarnings(): string[] {
    const warnings = this.#warnings;
    this.#warnings = [];
    return warnings;
  }

  /**
   * One record, intact; treat the bytes as read-only.
   * @throws EngineError `NETWORK`, `BAD_FILE`, `CORRUPT`, `STORAGE`, `ABORTED`
   */
  async read(key: string, urgency: Urgency = 'needed'): Promise<Uint8Array> {
    const damage = this.#digests.has(key) ? await this.#tryStored(key) : null;
    if (damage instanceof Uint8Array) return damage;
    try {
      const record = await this.#queue.fetch(key, urgency);
      this.#checkReplacement(record);
      this.counters.sourceReads++;
      return record.bytes;
    } catch (error) {
      if (damage === null || !(error instanceof EngineError)) throw error;
      throw new EngineError(damage.code, `${damage.message}; fetching it again failed: ${error.message}`, {
        cause: error,
      });
    }
  }

  async readInto(key: string, target: Uint8Array<ArrayBuffer>): Promise<boolean> {
    if (!this.#digests.has(key) || !(await this.#stored?.readInto(key, target))) return false;
    this.counters.storeReads++;
    this.counters.storeBytes += target.byteLength;
    return true;
  }

  /** Makes a record that was asked for as `expected` needed. */
  hasten(key: string): void {
    this.#queue.hasten(key);
  }

  /**
   * Fetches and stores records; those that are there cost nothing.
   * @throws EngineError as `read`, and `STORAGE_FULL`. What was stored stays.
   */
  async fill(keys: readonly string[], signal?: AbortSignal): Promise<void> {
    if (this.#full) throw this.#full;
    if (this.#store === null) return;
    await this.#queue.fill(
      keys.filter((key) => this.#missing.has(key)),
      signal,
    );
    throwIfAborted(signal, `installing "${this.#plan.name}"`);
  }

  /** Fetches all that is missing and commits the model. @throws as `fill` */
  async finish(signal?: AbortSignal): Promise<ModelManifest> {
    await this.fill(this.listMissing(), signal);
    const { manifest } = this;
    if (this.#store && !this.#committed) {
      // Of a page that died before it removed them: behind the manifest, nothing knows of them.
      await this.#removeParts(this.#store, [...this.#parts.keys()]);
      await this.#store.writeManifest(manifest);
      this.#committed = manifest;
      this.options.onProgress?.(this.getProgress());
    }
    return manifest;
  }

  /** Leaves most of the line to what is needed: from now on, something is waiting for pages. */
  stayBehind(): void {
    this.#queue.isBehind = true;
  }

  /** Fetches nothing but what is asked for until the returned function is called. */
  hold(): () => void {
    return this.#queue.hold();
  }

  getProgress(): InstallProgress {
    const totalBytes = this.#plan.sourceBytes;
    // the total is for the commit, also where two records are made of the same bytes
    const doneBytes = this.#committed ? totalBytes : Math.min(this.#doneBytes, totalBytes - 1);
    const bytesPerSecond = this.#rate.getBytesPerSecond(performance.now());
    const remainingMs = bytesPerSecond === null ? null : ((totalBytes - doneBytes) / bytesPerSecond) * 1000;
    return { doneBytes, totalBytes, bytesPerSecond, remainingMs };
  }

  /** Ends every request; whoever waits gets `ABORTED`. */
  async close(): Promise<void> {
    await this.#queue.close();
  }

  warn(message: string): void {
    this.#warnings.push(message);
  }

  /** The record, or why it counts as lost. */
  async #tryStored(key: string): Promise<Uint8Array | EngineError> {
    const reader = this.#stored;
    assert(reader, 'what has a digest is in a store');
    try {
      // A transaction that the browser aborted under pressure works the next time.
      const bytes = await reader.read(key).catch(() => reader.read(key));
      this.counters.storeReads++;
      this.counters.storeBytes += bytes.byteLength;
      return bytes;
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      const digest = this.#digests.get(key);
      if (digest !== undefined && !this.#lost.has(key)) {
        this.#lost.set(key, digest);
        this.counters.repairs++;
        this.warn(`${error.message}; it is fetched again from ${this.#source.name}`);
      }
      return error;
    }
  }

  /** @throws EngineError `CORRUPT` when a record that is fetched again is not what was lost. */
  #checkReplacement({ key, digest }: FetchedRecord): void {
    const expected = this.#lost.get(key) ?? digest;
    if (expected === digest) return;
    throw new EngineError(
      'CORRUPT',
      `record "${key}" of model "${this.#plan.name}" had SHA-256 ${expected}, and ${this.#source.name} now gives ${digest}: ` +
        'the file is another one; remove the model and install it again',
    );
  }

  async #commit(records: readonly FetchedRecord[]): Promise<void> {
    const store = this.#store;
    if (!store) return;
    try {
      this.#checkBudget(records);
      for (const record of records) this.#checkReplacement(record);
      await store.writeRecords(
        this.#plan.modelId,
        records.map(({ key, bytes, digest }) => [key, bytes, digest]),
      );
    } catch (error) {
      if (!(error instanceof EngineError) || !REFUSALS.has(error.code)) throw error;
      await this.#dropParts(store, records);
      throw error.code === 'STORAGE_FULL' ? this.#noteFull(error) : error;
    }
    for (const { key, bytes, digest } of records) {
      this.#digests.set(key, digest);
      this.#lost.delete(key);
      if (this.#missing.delete(key)) this.#storedBytes += bytes.byteLength;
    }
    await this.#dropParts(store, records);
  }

  /** @throws EngineError `STORAGE_FULL` where the store takes no more, or may not. */
  #checkBudget(records: readonly FetchedRecord[]): void {
    const added = records.filter(({ key }) => this.#missing.has(key));
    const bytes = added.reduce((sum, record) => sum + record.bytes.byteLength, 0);
    const { storeBudgetBytes = Number.POSITIVE_INFINITY } = this.options;
    const others = this.#getPartBytes(records.map(({ key }) => this.#getRecord(key)));
    if (!this.#full && this.#storedBytes + others + bytes > storeBudgetBytes) {
      this.#full = new EngineError(
        'STORAGE_FULL',
        `the store holds ${this.#storedBytes + others} bytes of "${this.#plan.name}", its budget is ${storeBudgetBytes}: ` +
          'what is beyond is read from its source each time; raise storeBudgetBytes to keep more',
      );
    }
    if (this.#full) throw this.#full;
  }

  /** While a record is written its parts are there too, and those that other records left. */
  #hasRoomForParts(record: InstallRecord): boolean {
    // A manifest knows of no parts: those that a page leaves behind it would stay.
    if (this.#full || this.#committed) return false;
    const { storeBudgetBytes = Number.POSITIVE_INFINITY } = this.options;
    const partBytes = getSourceBytes(record) + this.#getPartBytes([record]);
    return this.#storedBytes + partBytes + record.sizeBytes <= storeBudgetBytes;
  }

  /** Most bytes of the parts that other records than these left. */
  #getPartBytes(except: readonly InstallRecord[]): number {
    const own = this.#parts.size > 0 ? except.flatMap((record) => listPartKeys(record, this.#parts)) : [];
    return (this.#parts.size - own.length) * PART_BYTES;
  }

  /** Of records that are stored, or that the store refused. What cannot be removed now, the commit of the model removes. */
  async #dropParts(store: ModelStore, records: readonly FetchedRecord[]): Promise<void> {
    const keys = records.flatMap(({ key }) => listPartKeys(this.#getRecord(key), this.#parts));
    await this.#removeParts(store, keys).catch(() => {});
  }

  async #removeParts(store: ModelStore, keys: readonly string[]): Promise<void> {
    if (keys.length === 0) return;
    await store.removeRecords(this.#plan.modelId, keys);
    for (const key of keys) this.#parts.delete(key);
  }

  /** The store takes no more, at whichever write that was found: what is said of it is the same from then on. */
  #noteFull(error: EngineError): EngineError {
    this.#full ??= this.#addNeed(error);
    return this.#full;
  }

  /** A full store says what one write needed; the user wants to know what the model needs. */
  #addNeed(error: EngineError): EngineError {
    const neededBytes = getNeededBytes(this.#plan);
    return new EngineError(
      'STORAGE_FULL',
      `"${this.#plan.name}" needs ${neededBytes} bytes of storage, ${this.#storedBytes} of them are written, and the other ` +
        `${neededBytes - this.#storedBytes} are not there: ${error.message}`,
      { cause: error },
    );
  }

  #noteBytes(bytes: number, isNew: boolean): void {
    this.#doneBytes += bytes;
    if (isNew) {
      this.counters.sourceBytes += bytes;
      this.#rate.add(bytes, performance.now());
    }
    if (this.#store && !this.#committed) this.options.onProgress?.(this.getProgress());
  }

  #getRecord(key: string): InstallRecord {
    const record = this.#records.get(key);
    assert(record, `record ${key} is in the plan`);
    return record;
  }

  #listDigests(): Record<string, string> {
    return Object.fromEntries(
      this.#plan.records.flatMap(({ key }) => {
        const digest = this.#digests.get(key);
        return digest === undefined ? [] : [[key, digest]];
      }),
    );
  }
}

/** What all records of a model take in a store. */
export function getNeededBytes(plan: InstallPlan): number {
  return plan.records.reduce((sum, record) => sum + record.sizeBytes, 0);
}
