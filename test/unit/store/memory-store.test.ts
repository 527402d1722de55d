import { describe, expect, it } from 'vitest';
import { createMemoryStore } from '../../../src/store/memory-store';
import { openStore } from '../../../src/store/open-store';
import { createBytes, describeModelStore } from './store-contract';

describeModelStore('memory store', async () => createMemoryStore());

describe('openStore', () => {
  it('opens a new memory store each time', async () => {
    const first = await openStore('memory');
    expect(first.kind).toBe('memory');
    await first.writeRecords('a', [['k', createBytes(1)]]);
    const second = await openStore('memory');
    await expect(second.readRecord('a', 'k')).rejects.toMatchObject({ code: 'STORAGE' });
  });

  it('says what to use where there is no IndexedDB, as in Node', async () => {
    await expect(openStore('indexeddb')).rejects.toMatchObject({
      code: 'STORAGE',
      message: expect.stringMatching(/no IndexedDB; use the memory store/),
    });
  });

  it('refuses an unknown kind and names the known ones', async () => {
    await expect(openStore('floppy' as 'memory')).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringMatching(/"floppy" is unknown; use one of: indexeddb, opfs, memory/),
    });
  });
});

describe('memory store', () => {
  it('writes nothing of a batch that memory cannot hold', async () => {
    const store = createMemoryStore();
    const huge = {
      byteLength: 2 ** 40,
      slice() {
        throw new RangeError('Array buffer allocation failed');
      },
    } as unknown as Uint8Array;
    await expect(
      store.writeRecords('a', [
        ['small', createBytes(1)],
        ['huge', huge],
      ]),
    ).rejects.toMatchObject({
      code: 'STORAGE_FULL',
      message: expect.stringMatching(/1099511627777 more bytes of model a.*use the indexeddb store/),
    });
    await expect(store.readRecord('a', 'small')).rejects.toMatchObject({ code: 'STORAGE' });
  });
});
