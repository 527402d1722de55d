import { describe, expect, it } from 'vitest';
import { compileAdjustLogits, getChangesWords, getMaskWord } from '../../src/kernels/adjust-logits';
import { encodeLogitChanges, type LogitChanges } from '../../src/sampling/logit-changes';
import { adjustLogits } from '../reference/adjust-logits';
import { createControl, createRandom, expectSameBits, openBenches, randomFloats } from './harness';

const CAPACITY = 50;
const benches = await openBenches();

describe.each(benches)('adjust_logits, $name', (bench) => {
  async function run(logits: Float32Array<ArrayBuffer>, { deltas, mask }: LogitChanges, fault?: number) {
    const shape = { vocabSize: logits.length, capacity: CAPACITY };
    const kernel = await bench.compileOnce(shape, () => compileAdjustLogits(bench.device, bench.variant, shape));
    const changes = new Uint32Array(getChangesWords(shape));
    changes.set(encodeLogitChanges({ deltas, mask }, CAPACITY));
    if (mask) changes.set(mask, getMaskWord(CAPACITY));
    const control = createControl(fault === undefined ? {} : { fault });
    const b = await bench.place({ changes, logits, control });
    const [bytes] = await bench.run([[kernel.bind(b), 1]], [b.logits]);
    return new Float32Array(bytes!, 0, logits.length);
  }

  function createCase(vocabSize: number, pairs: number, masked: boolean) {
    const random = createRandom(vocabSize + pairs);
    const logits = randomFloats(random, vocabSize, 20);
    const mask = masked ? Uint32Array.from({ length: Math.ceil(vocabSize / 32) }, () => random() * 2 ** 32) : null;
    const isAllowed = (id: number) => mask === null || ((mask[id >> 5]! >>> (id & 31)) & 1) === 1;
    const ids = new Set(Array.from({ length: pairs }, () => Math.floor(random() * vocabSize)).filter(isAllowed));
    const deltas = [...ids].map((id) => [id, (random() * 2 - 1) * 100] as const);
    return { logits, changes: { deltas, mask } };
  }

  it.each(
    bench.thin([
      [1, 1, true],
      [31, 5, true],
      [32, 50, false],
      [33, 20, true],
      [301, 50, true],
      [5000, 50, true],
      [5000, 0, true],
      [5000, 3, false],
    ] as const),
  )('changes a row of %i logits at %i ids, mask %s, as the reference does', async (vocabSize, pairs, masked) => {
    const { logits, changes } = createCase(vocabSize, pairs, masked);
    expectSameBits(await run(logits, changes), adjustLogits(logits, changes.deltas, changes.mask));
  });

  it('changes nothing without pairs and mask, and nothing behind a fault', async () => {
    const { logits, changes } = createCase(301, 20, true);
    expectSameBits(await run(logits, { deltas: [], mask: null }), logits);
    expectSameBits(await run(logits, changes, 0), logits);
    expect(changes.deltas.length).toBeGreaterThan(3);
  });
});
