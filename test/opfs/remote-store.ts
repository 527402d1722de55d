/** The OPFS store for tests that run in the page: the real one, in a worker of its own. Never decides anything itself. */
import { wrap } from 'comlink';
import type { ModelStore, StoreKind } from '../../src/store/model-store';
import { openStore } from '../../src/store/open-store';
import { fromErrorWire } from '../../src/worker/error-wire';
import type { Reply } from '../../src/worker/protocol';
import type { OpfsService, StoreMethod } from './worker';

export interface RemoteStore extends ModelStore {
  readonly service: Pick<OpfsService, 'fail'>;
}

let shared: Promise<ModelStore> | undefined;

/**
 * Every kind of store that there is, in the page. One worker serves all who ask for `opfs`; without reads into given memory,
 * whose worth here an engine would measure anew in every run.
 */
export async function openAnyStore(kind: StoreKind): Promise<ModelStore> {
  if (kind !== 'opfs') return openStore(kind);
  shared ??= openRemoteStore().then(({ readRecordInto: _, ...store }) => store);
  return shared;
}

/** @param name of its folder and database; each worker is a tab of its own as far as the file system knows. */
export async function openRemoteStore(name = 'webmoe-test-opfs'): Promise<RemoteStore> {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  const service = wrap<OpfsService>(worker);
  unwrap(await service.open(name));
  const call = (method: StoreMethod) =>
    (async (...args: readonly unknown[]) => unwrap((await service.call(method, args)) as Reply<unknown>)) as never;
  return {
    kind: 'opfs',
    service: { fail: (fault, times) => service.fail(fault, times) },
    readModels: call('readModels'),
    readManifest: call('readManifest'),
    readDrafts: call('readDrafts'),
    readDraft: call('readDraft'),
    writeDraft: call('writeDraft'),
    writeManifest: call('writeManifest'),
    readRecord: call('readRecord'),
    async readRecordInto(modelId, key, target) {
      const bytes = unwrap((await service.readInto(modelId, key, target.byteLength)) as Reply<Uint8Array | null>);
      // Memory of a lost device has no bytes any more.
      if (bytes?.byteLength !== target.byteLength) return false;
      target.set(bytes);
      return true;
    },
    writeRecords: call('writeRecords'),
    readDigests: call('readDigests'),
    removeRecords: call('removeRecords'),
    readState: call('readState'),
    writeState: call('writeState'),
    removeModel: call('removeModel'),
    release: call('release'),
    close: call('close'),
  };
}

function unwrap<T>(reply: Reply<T>): T {
  if (!reply.ok) throw fromErrorWire(reply.error);
  return reply.value;
}
