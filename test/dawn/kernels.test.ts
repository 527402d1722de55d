/**
 * The kernels' tests in Node, over an adapter with shader-f16: Chromium's software adapter has none, so their f16 forms run here
 * alone: `matvec` in every run, all kernels in `npm run test:full`, which is another adapter with another width of subgroups.
 */
import { describe, it, vi } from 'vitest';
import { installDawn } from './lavapipe';

/** Lavapipe compiles a pipeline when it is first used, which takes seconds, and on a busy machine half a minute. */
vi.setConfig({ testTimeout: 300_000 });

const modules = import.meta.glob('../gpu/*.test.ts');
const isFull = Boolean(import.meta.env.WEBMOE_FULL);
const names = Object.keys(modules).filter((path) => isFull || path.endsWith('/matvec.test.ts'));

const missing = await installDawn();
if (missing) {
  console.warn(`SKIPPED: kernels in f16. ${missing}`);
  it.skip(`kernels in f16: ${missing}`, () => {});
} else {
  for (const name of names) await modules[name]?.();
  describe('all of them', () => {
    it('were there to run', ({ expect }) => expect(names.length).toBeGreaterThan(isFull ? 20 : 0));
  });
}
