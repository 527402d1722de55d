import { describe, it } from 'vitest';
import { compileShortConv } from '../../src/kernels/short-conv';
import { shortConv } from '../reference/short-conv';
import {
  createControl,
  createRandom,
  expectClose,
  expectSameBits,
  expectUntouched,
  openBenches,
  type PassState,
  randomFloats,
  SENTINEL,
} from './harness';
import { describeCase, LAYER, MODES } from './modes';

const POSITIONS = 9;
/** Rows of the largest pass here. */
const ROWS = 4;

const benches = await openBenches();

describe.each(benches)('short_conv, $name', (bench) => {
  it.each([
    [36, 3, false],
    [100, 4, true],
    [7, 1, true],
  ] as const)('%i channels, %i taps, bias %s', async (hidden, count, hasBias) => {
    const { run, reference, length } = await prepare(hidden, count, hasBias);
    const cache = new Float32Array(length * hidden).fill(SENTINEL);
    const alone = new Map<number, Float32Array>();
    // A pass over some, one at a time, and then again from an earlier position, as after a draft that was refused.
    for (const [first, rows] of [
      [0, 1],
      [1, 4],
      [5, 1],
      [6, 3],
      [5, 4],
    ] as const) {
      const { out } = await run(cache, first, rows);
      for (let row = 0; row < rows; row++) {
        const own = out.slice(row * hidden, (row + 1) * hidden);
        const at = (first + row) * hidden;
        expectClose(own, reference.out.slice(at, at + hidden), 1e-5, `position ${first + row}`);
        expectSameBits(own, alone.get(first + row) ?? own, `position ${first + row} again`);
        alone.set(first + row, own);
      }
    }
  });

  it('writes its own positions also in shadow, and nothing when dead', async () => {
    const [hidden, count] = [36, 3];
    const { run, reference, length } = await prepare(hidden, count, false);
    for (const state of MODES) {
      const cache = new Float32Array(length * hidden).fill(SENTINEL);
      const { out } = await run(cache, 0, 2, state);
      const what = describeCase(state);
      expectUntouched(cache.slice(2 * hidden), what);
      if (state.attention === 'dead') {
        expectUntouched(out, what);
        expectUntouched(cache, what);
      } else expectClose(out, reference.out.slice(0, 2 * hidden), 1e-5, what);
    }
  });

  async function prepare(hidden: number, count: number, hasBias: boolean) {
    const random = createRandom(hidden);
    const projections = randomFloats(random, POSITIONS * 3 * hidden, 2);
    const taps = randomFloats(random, hidden * count, 2);
    const bias = randomFloats(random, hidden);
    const length = ROWS + count - 1;
    const spec = { hiddenSize: hidden, convolution: { taps: count, hasBias }, cacheLength: length };
    const kernel = await bench.compileOnce(spec, () => compileShortConv(bench.device, bench.variant, spec));
    /** Writes what the kernel makes of `cache` back to it. */
    const run = async (cache: Float32Array, first: number, rows: number, state: PassState = {}) => {
      const own = projections.slice(first * 3 * hidden, (first + rows) * 3 * hidden);
      const blank = new Float32Array(rows * hidden).fill(SENTINEL);
      const b = await bench.place({
        projections: own,
        taps,
        bias,
        cache: cache.slice(),
        out: blank,
        control: createControl(state),
      });
      const command = kernel.bind({ ...b, moeLayer: bench.uniform(LAYER), step: bench.uniform(rows, first) });
      const [outBytes, cacheBytes] = await bench.run([[command, rows]], [b.out, b.cache]);
      cache.set(new Float32Array(cacheBytes!, 0, cache.length));
      return { out: new Float32Array(outBytes!, 0, blank.length) };
    };
    return { run, reference: shortConv(hidden, projections, taps, hasBias ? bias : null), length };
  }
});
