/**
 * A model store for measurements: bytes at no more than a given rate, and nothing kept of what predictors learn.
 * Never holds records of its own.
 */
import type { ModelStore } from '../../src/store/model-store';

export interface StoreLimits {
  /** Bytes per second; undefined: as fast as the store is. */
  readonly bytesPerSecond: number | undefined;
}

export function limitStore(base: ModelStore, { bytesPerSecond }: StoreLimits): ModelStore {
  /** When the last byte that was asked for has come through. */
  let freeAtMs = 0;
  /** One disk: reads queue behind each other, and the store's own time counts towards theirs. */
  const limitRead = async (startMs: number, bytes: Uint8Array): Promise<void> => {
    if (bytesPerSecond === undefined) return;
    freeAtMs = Math.max(freeAtMs, startMs) + (bytes.byteLength / bytesPerSecond) * 1000;
    await waitUntil(freeAtMs);
  };
  const { readRecordInto } = base;
  return {
    ...base,
    readState: async () => undefined,
    writeState: async () => {},
    async readRecord(modelId, key) {
      const startMs = performance.now();
      const bytes = await base.readRecord(modelId, key);
      await limitRead(startMs, bytes);
      return bytes;
    },
    ...(readRecordInto && {
      async readRecordInto(modelId: string, key: string, target: Uint8Array<ArrayBuffer>) {
        const startMs = performance.now();
        const isRead = await readRecordInto(modelId, key, target);
        if (isRead) await limitRead(startMs, target);
        return isRead;
      },
    }),
  };
}

/** Timers are no help: a page waits a fifth of a millisecond, and browsers round nested timers up to four. */
async function waitUntil(timeMs: number): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  try {
    while (performance.now() < timeMs) {
      await new Promise((resolve) => {
        port1.onmessage = resolve;
        port2.postMessage(null);
      });
    }
  } finally {
    port1.close();
    port2.close();
  }
}
