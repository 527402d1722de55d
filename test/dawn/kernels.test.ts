/**
 * The kernels' tests in Node, over an adapter with shader-f16: Chromium's software adapter has none, so their f16 forms run here
 * alone, and those with subgroup matrices where the adapter has these: `matvec` and the tiled products in every run, all kernels
 * in `npm run test:full`, which is another adapter with another width of subgroups.
 */
import { describe, it, vi } from 'vitest';
import { explainNoMatrices, installDawn } from './lavapipe';

/** Lavapipe compiles a pipeline when it is first used, which takes seconds, and on a busy machine half a minute. */
vi.setConfig({ testTimeout: 300_000 });

const modules = import.meta.glob('../gpu/*.test.ts');
const isFull = Boolean(import.meta.env.WEBMOE_FULL);

const missing = await installDawn();
const noMatrices = missing ?? (await explainNoMatrices());

const samples = [
  ...(missing ? [] : ['matvec']),
  ...(noMatrices ? [] : ['matmul', 'expert-gate-up-tiled', 'expert-down-tiled']),
].map((name) => `../gpu/${name}.test.ts`);
const names = Object.keys(modules).filter((path) => (isFull && !missing) || samples.includes(path));

for (const [forms, reason] of [
  ['in f16', missing],
  ['with subgroup matrices', noMatrices],
]) {
  if (reason) {
    console.warn(`SKIPPED: kernels ${forms}. ${reason}`);
    it.skip(`kernels ${forms}: ${reason}`, () => {});
  }
}

for (const name of names) await modules[name]?.();

describe.skipIf(missing)('all of them', () => {
  it('were there to run', ({ expect }) => expect(names.length).toBeGreaterThanOrEqual(isFull ? 21 : samples.length));
});
