/**
 * Models in IndexedDB: records as Blobs under [modelId, key], manifests beside them in an object store of their own.
 * Owns what a model looks like in the database; the connection belongs to indexeddb-connection.ts.
 * Never checks digests: that is verified-reader.ts.
 */
import { del, delMany, get, promisifyRequest, set, setMany, values } from 'idb-keyval';
import type { ModelManifest } from '../checkpoint/manifest';
import { type ConnectionOptions, openConnection } from './indexeddb-connection';
import { isCurrentManifest, type ModelDraft, type ModelStore } from './model-store';
import { missingRecord, toStorageError } from './storage-errors';

/** The one database of webmoe on an origin. */
const DATABASE_NAME = 'webmoe';

/** Digests lie under [modelId, DIGESTS, key], in the same transaction as their records. */
const DIGESTS = 'digest';

export interface IndexedDbStoreOptions extends ConnectionOptions {
  /** Default `webmoe`; tests take others. */
  readonly databaseName?: string | undefined;
}

/** A store with something for those who keep bytes elsewhere. */
export interface IndexedDbStore extends ModelStore {
  /** Notes digests of records whose bytes are not in the database. */
  writeDigests(modelId: string, digests: readonly (readonly [key: string, digest: string])[]): Promise<void>;
}

/** @throws EngineError `STORAGE` when the browser has no IndexedDB or refuses it (private mode, blocked storage). */
export async function openIndexedDbStore(options: IndexedDbStoreOptions = {}): Promise<IndexedDbStore> {
  const connection = await openConnection(
    options.databaseName ?? DATABASE_NAME,
    ['records', 'manifests', 'drafts'],
    options,
  );
  // Records are relaxed: what a power cut loses, the digest at first read finds. The manifest waits for the disk.
  const records = connection.getStore('records', 'relaxed');
  const manifests = connection.getStore('manifests', 'strict');
  const drafts = connection.getStore('drafts', 'strict');

  return {
    kind: 'indexeddb',
    async readModels() {
      try {
        const models = await values<ModelManifest>(manifests);
        return models.filter(isCurrentManifest);
      } catch (error) {
        throw await toStorageError(error, 'reading the list of installed models');
      }
    },
    async readManifest(modelId) {
      try {
        const manifest = await get<ModelManifest>(modelId, manifests);
        return manifest && isCurrentManifest(manifest) ? manifest : undefined;
      } catch (error) {
        throw await toStorageError(error, `reading the manifest of model ${modelId}`);
      }
    },
    async writeManifest(manifest) {
      try {
        await set(manifest.modelId, manifest, manifests);
        await del(manifest.modelId, drafts);
      } catch (error) {
        throw await toStorageError(error, `writing the manifest of model ${manifest.modelId}`);
      }
    },
    async readDrafts() {
      try {
        return await values<ModelDraft>(drafts);
      } catch (error) {
        throw await toStorageError(error, 'reading the list of unfinished installs');
      }
    },
    async readDraft(modelId) {
      try {
        return await get<ModelDraft>(modelId, drafts);
      } catch (error) {
        throw await toStorageError(error, `reading how far the install of model ${modelId} has come`);
      }
    },
    async writeDraft(draft) {
      try {
        await set(draft.modelId, draft, drafts);
      } catch (error) {
        throw await toStorageError(error, `beginning the install of model ${draft.modelId}`);
      }
    },
    async readRecord(modelId, key) {
      try {
        const blob = await get<Blob>([modelId, key], records);
        if (blob === undefined) throw missingRecord(modelId, key);
        return new Uint8Array(await blob.arrayBuffer());
      } catch (error) {
        throw await toStorageError(error, `reading record "${key}" of model ${modelId}`);
      }
    },
    async writeRecords(modelId, entries) {
      try {
        // the cast: Blob parts may not be shared memory, and nothing in webmoe is
        const values: [IDBValidKey, Blob | string][] = [];
        for (const [key, bytes, digest] of entries) {
          values.push([[modelId, key], new Blob([bytes as Uint8Array<ArrayBuffer>])]);
          if (digest !== undefined) values.push([[modelId, DIGESTS, key], digest]);
        }
        await setMany(values, records);
      } catch (error) {
        const neededBytes = entries.reduce((sum, [, bytes]) => sum + bytes.byteLength, 0);
        throw await toStorageError(error, `writing ${neededBytes} bytes of model ${modelId}`);
      }
    },
    async writeDigests(modelId, digests) {
      if (digests.length === 0) return;
      try {
        await setMany(
          digests.map(([key, digest]) => [[modelId, DIGESTS, key], digest]),
          records,
        );
      } catch (error) {
        throw await toStorageError(error, `noting ${digests.length} records of model ${modelId}`);
      }
    },
    async readDigests(modelId) {
      try {
        const ofModel = IDBKeyRange.bound([modelId, DIGESTS], [modelId, DIGESTS, []], true);
        // one transaction: both requests see the same records
        const [keys, digests] = await records('readonly', (store) =>
          Promise.all([
            promisifyRequest(store.getAllKeys(ofModel)) as Promise<[string, string, string][]>,
            promisifyRequest<string[]>(store.getAll(ofModel)),
          ]),
        );
        return new Map(keys.map(([, , key], i) => [key, digests[i] as string]));
      } catch (error) {
        throw await toStorageError(error, `reading what is installed of model ${modelId}`);
      }
    },
    async removeRecords(modelId, keys) {
      try {
        await delMany(
          keys.flatMap((key) => [
            [modelId, key],
            [modelId, DIGESTS, key],
          ]),
          records,
        );
      } catch (error) {
        throw await toStorageError(error, `removing ${keys.length} records of model ${modelId}`);
      }
    },
    async readState(modelId, name) {
      try {
        return await get<unknown>([modelId, `state/${name}`], records);
      } catch (error) {
        throw await toStorageError(error, `reading state "${name}" of model ${modelId}`);
      }
    },
    async writeState(modelId, name, value) {
      try {
        await set([modelId, `state/${name}`], value, records);
      } catch (error) {
        throw await toStorageError(error, `writing state "${name}" of model ${modelId}`);
      }
    },
    async removeModel(modelId) {
      try {
        await del(modelId, manifests);
        await del(modelId, drafts);
        // every [modelId, string, ...]: an array sorts after all strings
        const ofModel = IDBKeyRange.bound([modelId], [modelId, []]);
        await records('readwrite', (store) => {
          store.delete(ofModel);
          return promisifyRequest(store.transaction);
        });
      } catch (error) {
        throw await toStorageError(error, `removing model ${modelId}`);
      }
    },
    async release() {},
    async close() {
      connection.close();
    },
  };
}
