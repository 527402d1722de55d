/** An answer that an abort or a failing page read ends in the middle: what it throws, and what the engine answers afterwards. */
import { expect } from 'vitest';
import type { GenerateRequest, LoadOptions } from '../../src/engine/engine';
import { EngineError } from '../../src/errors';
import { createMemoryStore } from '../../src/store/memory-store';
import type { ModelStore } from '../../src/store/model-store';
import { generate, openForTest, type TestModel } from './engine-session';
import { watchFile } from './watched-file';

/** Nothing is kept in RAM: every fault reads. */
const OPTIONS: LoadOptions = { expertBudget: { percent: 34 }, hostCacheBytes: 0 };

/** A store whose reads do as told, each with the number of reads since the last call of `setOnRead`. */
function createWatchedStore() {
  const store = createMemoryStore();
  let onRead: (reads: number) => void = () => {};
  let reads = 0;
  const watched: ModelStore = {
    ...store,
    async readRecord(modelId, key) {
      onRead(++reads);
      return store.readRecord(modelId, key);
    },
  };
  return {
    store: watched,
    setOnRead(next: (reads: number) => void) {
      onRead = next;
      reads = 0;
    },
  };
}

/**
 * Ends answers from their first token on, at a page read, and expects the right code each time, and then `request`'s right answer.
 * @param plain gives the right answer.
 * @param readsBefore page reads that go well before the end.
 */
export async function expectInterruptions(
  model: TestModel,
  request: GenerateRequest,
  plain: GenerateRequest,
  readsBefore: readonly number[],
): Promise<void> {
  const { store, setOnRead } = createWatchedStore();
  // A page that the store has lost would be read from the file again.
  const file = watchFile();
  const { engine } = await openForTest(model, OPTIONS, { openStore: async () => store });
  const right = (await generate(engine, plain)).result.tokenIds;
  for (const code of ['ABORTED', 'STORAGE'] as const) {
    for (const least of readsBefore) {
      const controller = new AbortController();
      let started = false;
      let ended = false;
      const run = async () => {
        for await (const { type } of engine.generate(request, controller.signal)) {
          if (type !== 'token' || started) continue;
          started = true;
          setOnRead((reads) => {
            if (reads <= least) return;
            ended = true;
            if (code === 'ABORTED') return controller.abort('enough');
            file.isGone = true;
            throw new EngineError('STORAGE', 'reading the record failed: the disk is gone');
          });
        }
      };
      await expect(run(), `${code} after ${least} reads`).rejects.toMatchObject({ code });
      expect(ended).toBe(true);
      setOnRead(() => {});
      file.isGone = false;
      expect((await generate(engine, request)).result.tokenIds).toEqual(right);
    }
  }
}
