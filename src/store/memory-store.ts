/**
 * A store in this realm's memory: for machines without browser storage, for tests, and for models that must not stay.
 * Never shares bytes or manifests with its callers; everything is gone with it.
 */
import type { ModelManifest } from '../checkpoint/manifest';
import { EngineError } from '../errors';
import { isCurrentManifest, type ModelDraft, type ModelStore } from './model-store';
import { missingRecord } from './storage-errors';

export function createMemoryStore(): ModelStore {
  const manifests = new Map<string, ModelManifest>();
  const recordsByModel = new Map<string, Map<string, Uint8Array>>();
  const digestsByModel = new Map<string, Map<string, string>>();
  const drafts = new Map<string, ModelDraft>();
  const states = new Map<string, Map<string, unknown>>();
  let closed = false;
  const checkOpen = () => {
    if (closed) throw new EngineError('STORAGE', 'the memory store is closed; open a new one');
  };

  return {
    kind: 'memory',
    async readModels() {
      checkOpen();
      return [...manifests.values()].filter(isCurrentManifest).map((manifest) => structuredClone(manifest));
    },
    async readManifest(modelId) {
      checkOpen();
      const manifest = manifests.get(modelId);
      return manifest && isCurrentManifest(manifest) ? structuredClone(manifest) : undefined;
    },
    async writeManifest(manifest) {
      checkOpen();
      manifests.set(manifest.modelId, structuredClone(manifest));
      drafts.delete(manifest.modelId);
    },
    async readDrafts() {
      checkOpen();
      return [...drafts.values()];
    },
    async readDraft(modelId) {
      checkOpen();
      return structuredClone(drafts.get(modelId));
    },
    async writeDraft(draft) {
      checkOpen();
      drafts.set(draft.modelId, structuredClone(draft));
    },
    async readRecord(modelId, key) {
      checkOpen();
      const bytes = recordsByModel.get(modelId)?.get(key);
      if (bytes === undefined) throw missingRecord(modelId, key);
      return bytes.slice();
    },
    async readRecordInto(modelId, key, target) {
      checkOpen();
      const bytes = recordsByModel.get(modelId)?.get(key);
      if (bytes?.byteLength !== target.byteLength) return false;
      target.set(bytes);
      return true;
    },
    async writeRecords(modelId, records) {
      checkOpen();
      let copies: [string, Uint8Array][];
      try {
        copies = records.map(([key, bytes]) => [key, bytes.slice()]);
      } catch (cause) {
        const neededBytes = records.reduce((sum, [, bytes]) => sum + bytes.byteLength, 0);
        throw new EngineError(
          'STORAGE_FULL',
          `memory for ${neededBytes} more bytes of model ${modelId} was refused; use the indexeddb store or a smaller model`,
          { cause },
        );
      }
      const stored = recordsByModel.get(modelId) ?? new Map<string, Uint8Array>();
      recordsByModel.set(modelId, stored);
      for (const [key, bytes] of copies) stored.set(key, bytes);
      const digests = digestsByModel.get(modelId) ?? new Map<string, string>();
      digestsByModel.set(modelId, digests);
      for (const [key, , digest] of records) if (digest !== undefined) digests.set(key, digest);
    },
    async readDigests(modelId) {
      checkOpen();
      return new Map(digestsByModel.get(modelId));
    },
    async removeRecords(modelId, keys) {
      checkOpen();
      for (const key of keys) {
        digestsByModel.get(modelId)?.delete(key);
        recordsByModel.get(modelId)?.delete(key);
      }
    },
    async readState(modelId, name) {
      checkOpen();
      return structuredClone(states.get(modelId)?.get(name));
    },
    async writeState(modelId, name, value) {
      checkOpen();
      const ofModel = states.get(modelId) ?? new Map<string, unknown>();
      states.set(modelId, ofModel);
      ofModel.set(name, structuredClone(value));
    },
    async removeModel(modelId) {
      checkOpen();
      manifests.delete(modelId);
      drafts.delete(modelId);
      states.delete(modelId);
      digestsByModel.delete(modelId);
      recordsByModel.delete(modelId);
    },
    async release() {},
    async close() {
      closed = true;
      manifests.clear();
      drafts.clear();
      digestsByModel.clear();
      recordsByModel.clear();
      states.clear();
    },
  };
}
