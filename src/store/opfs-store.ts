/**
 * Models in the origin private file system: the announced records of a model in one preallocated file, a page one read.
 * Owns that file; where its records lie is noted, like manifests, drafts, digests and all that was not announced, in an
 * IndexedDB database beside it. A record counts once its digest is noted there, which is after its bytes were written.
 */
import { assert, EngineError } from '../errors';
import type { ConnectionOptions } from './indexeddb-connection';
import { openIndexedDbStore } from './indexeddb-store';
import type { ModelStore, RecordEntry } from './model-store';
import { hasSyncHandles, type OpfsFile, openOpfsFile } from './opfs-file';
import { layOutRecords, type RecordPlace } from './record-layout';
import { missingRecord, toStorageError } from './storage-errors';

export interface OpfsStoreOptions extends ConnectionOptions {
  /** Of the folder in the file system and of the database. Default `webmoe-opfs`; tests take others. */
  readonly name?: string | undefined;
}

/** What is known of a model's file. */
interface Directory {
  /** Empty for a model that was never announced. */
  readonly places: ReadonlyMap<string, RecordPlace>;
  /** Keys whose bytes are in the file. */
  readonly written: Set<string>;
  /** Null where there is no file. */
  file: OpfsFile | null;
  /** While it is made. */
  making: Promise<OpfsFile | null> | null;
}

const DEFAULT_NAME = 'webmoe-opfs';
const PLACES_STATE = 'places';

/** @throws EngineError `UNSUPPORTED` outside workers and where there are no sync access handles, `STORAGE` where it is refused. */
export async function openOpfsStore({ name = DEFAULT_NAME, ...options }: OpfsStoreOptions = {}): Promise<ModelStore> {
  if (!hasSyncHandles()) {
    throw new EngineError(
      'UNSUPPORTED',
      'store "opfs" needs sync access handles of the origin private file system, which browsers have in dedicated workers ' +
        'alone, and this is none: use createEngine, whose engine is in one, or the indexeddb store',
    );
  }
  const folder = await openFolder(name);
  const database = await openIndexedDbStore({ ...options, databaseName: name });
  const directories = new Map<string, Promise<Directory>>();

  const getFile = async (modelId: string, create: boolean): Promise<OpfsFile | null> => {
    try {
      return await openOpfsFile(await folder.getFileHandle(encodeURIComponent(modelId), { create }));
    } catch (error) {
      if (error instanceof DOMException && error.name === 'NotFoundError') return null;
      throw error;
    }
  };

  const readDirectory = async (modelId: string): Promise<Directory> => {
    const places = (await database.readState(modelId, PLACES_STATE)) as Directory['places'] | undefined;
    if (!places) return { places: new Map(), written: new Set(), file: null, making: null };
    const digests = await database.readDigests(modelId);
    const written = new Set([...digests.keys()].filter((key) => places.has(key)));
    try {
      return { places, written, file: await getFile(modelId, false), making: null };
    } catch (error) {
      throw await toStorageError(error, `opening the file of model ${modelId}`);
    }
  };

  /** Read once until the model is released: only who holds its lock alone changes where its records lie. */
  const getDirectory = (modelId: string): Promise<Directory> => {
    const known = directories.get(modelId);
    if (known) return known;
    const reading = readDirectory(modelId);
    directories.set(modelId, reading);
    reading.catch(() => directories.delete(modelId));
    return reading;
  };

  const closeFile = async (modelId: string): Promise<void> => {
    const known = directories.get(modelId);
    directories.delete(modelId);
    const directory = await known?.catch(() => undefined);
    const file = directory?.making ? await directory.making.catch(() => null) : directory?.file;
    file?.close();
  };

  const removeFile = async (modelId: string): Promise<void> => {
    await closeFile(modelId);
    await removeEntry(folder, encodeURIComponent(modelId));
  };

  /** The file of a model that has places; made where it is not there, or not any more. */
  const ensureFile = async (modelId: string, directory: Directory): Promise<OpfsFile> => {
    if (directory.file) return directory.file;
    directory.making ??= getFile(modelId, true).finally(() => {
      directory.making = null;
    });
    directory.file = await directory.making;
    assert(directory.file, 'a file that is made is there');
    return directory.file;
  };

  await removeOrphans(folder, database);
  return {
    ...database,
    kind: 'opfs',
    async writeDraft(draft, records = []) {
      const { modelId } = draft;
      try {
        await removeFile(modelId);
        const { places, totalBytes } = layOutRecords(records);
        await database.writeState(modelId, PLACES_STATE, places);
        const directory = await getDirectory(modelId);
        if (places.size > 0) await reserve(await ensureFile(modelId, directory), totalBytes);
        await database.writeDraft(draft);
      } catch (error) {
        throw await toStorageError(error, `beginning the install of model ${modelId}`);
      }
    },
    async writeManifest(manifest) {
      try {
        const { file } = await getDirectory(manifest.modelId);
        file?.flush();
      } catch (error) {
        throw await toStorageError(error, `writing model ${manifest.modelId} to the disk`);
      }
      await database.writeManifest(manifest);
    },
    async readRecord(modelId, key) {
      const { places, written, file } = await getDirectory(modelId);
      const place = places.get(key);
      if (!place || !written.has(key)) return database.readRecord(modelId, key);
      let bytes: Uint8Array | undefined;
      try {
        bytes = await file?.read(place.offsetBytes, place.lengthBytes);
      } catch (error) {
        throw await toStorageError(error, `reading record "${key}" of model ${modelId}`);
      }
      if (bytes?.byteLength !== place.lengthBytes) throw missingRecord(modelId, key);
      return bytes;
    },
    async readRecordInto(modelId, key, target) {
      const { places, written, file } = await getDirectory(modelId);
      const place = places.get(key);
      // Asked behind the wait: memory of a device that was lost meanwhile has no bytes any more.
      if (!file || !written.has(key) || place?.lengthBytes !== target.byteLength) return false;
      try {
        return file.readInto(place.offsetBytes, target);
      } catch (error) {
        throw await toStorageError(error, `reading record "${key}" of model ${modelId}`);
      }
    },
    async writeRecords(modelId, records) {
      const directory = await getDirectory(modelId);
      const isPlaced = ([key, , digest]: RecordEntry) => digest !== undefined && directory.places.has(key);
      const placed = records.filter(isPlaced);
      try {
        const file = placed.length > 0 ? await ensureFile(modelId, directory) : null;
        for (const [key, bytes] of placed) {
          const place = directory.places.get(key);
          assert(place?.lengthBytes === bytes.byteLength, `record ${key} has the size that was announced`);
          await file?.write(place.offsetBytes, bytes);
        }
      } catch (error) {
        const neededBytes = placed.reduce((sum, [, bytes]) => sum + bytes.byteLength, 0);
        throw await toStorageError(error, `writing ${neededBytes} bytes of model ${modelId}`);
      }
      await database.writeRecords(
        modelId,
        records.filter((record) => !isPlaced(record)),
      );
      await database.writeDigests(
        modelId,
        placed.map(([key, , digest]) => [key, digest as string]),
      );
      for (const [key] of placed) directory.written.add(key);
    },
    async removeRecords(modelId, keys) {
      const { written } = await getDirectory(modelId);
      await database.removeRecords(modelId, keys);
      for (const key of keys) written.delete(key);
    },
    async removeModel(modelId) {
      await database.removeModel(modelId);
      try {
        await removeFile(modelId);
      } catch (error) {
        throw await toStorageError(error, `removing model ${modelId}`);
      }
    },
    async release(modelId) {
      await closeFile(modelId);
    },
    async close() {
      await Promise.all([...directories.keys()].map(closeFile));
      await database.close();
    },
  };
}

async function openFolder(name: string): Promise<FileSystemDirectoryHandle> {
  try {
    return await (await navigator.storage.getDirectory()).getDirectoryHandle(name, { create: true });
  } catch (error) {
    const remedy = 'allow this site to store data, or use the memory store';
    throw await toStorageError(error, 'opening the origin private file system', remedy);
  }
}

/** Space that is refused now may be there when it is needed, and what is not is said then: a start needs only a part. */
async function reserve(file: OpfsFile, totalBytes: number): Promise<void> {
  try {
    await file.reserve(totalBytes);
  } catch (error) {
    if (!(error instanceof DOMException) || error.name !== 'QuotaExceededError') throw error;
  }
}

async function removeEntry(folder: FileSystemDirectoryHandle, fileName: string): Promise<void> {
  try {
    await folder.removeEntry(fileName);
  } catch (error) {
    if (!(error instanceof DOMException) || error.name !== 'NotFoundError') throw error;
  }
}

/** Files of models that were removed by a page that died on the way. */
async function removeOrphans(folder: FileSystemDirectoryHandle, database: ModelStore): Promise<void> {
  for await (const fileName of folder.keys()) {
    const places = await database.readState(decodeURIComponent(fileName), PLACES_STATE);
    // Another tab may be removing it too.
    if (places === undefined) await removeEntry(folder, fileName).catch(() => {});
  }
}
