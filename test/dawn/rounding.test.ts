/**
 * How far products in f16 move the embedded model, in Node over an adapter with shader-f16: Chromium's software adapter has none.
 * In `npm run test:full`; the errors of the other options that round are held by test/engine/variants.test.ts.
 */
import { readFile } from 'node:fs/promises';
import { expect, it, vi } from 'vitest';
import { installDawn } from './lavapipe';

vi.setConfig({ testTimeout: 600_000 });

const missing = import.meta.env.WEBMOE_FULL ? await installDawn() : 'runs in npm run test:full';
if (missing) it.skip(`the error of products in f16: ${missing}`, () => {});
else {
  it('products in f16 stay below 0.001 nats of divergence a position', async () => {
    const { computeLogits, openFile } = await import('../engine/golden-runtime');
    const { getDivergence } = await import('../divergence');
    const { url } = JSON.parse(await readFile('public/models/default.json', 'utf8'));
    const file = new Uint8Array(await readFile(`public/${url}`));
    const ids = Array.from({ length: 90 }, (_, i) => 3 + ((i * i + 11 * i) % 4000));
    const [expected, found] = await Promise.all(
      [{}, { kernels: { f16: true } }].map(async (options) => {
        const opened = await openFile(file, options);
        // Fewer rows than a tile has: the kernels of decoding, whose products these are.
        const logits = await computeLogits(opened, ids, 15);
        opened.runtime.destroy();
        return logits;
      }),
    );
    const divergences = (expected ?? []).map((logits, i) => getDivergence(logits, found?.[i] as Float32Array));
    const mean = divergences.reduce((sum, value) => sum + value, 0) / divergences.length;
    expect(mean).toBeGreaterThan(0);
    expect(mean).toBeLessThan(1e-3);
  });
}
