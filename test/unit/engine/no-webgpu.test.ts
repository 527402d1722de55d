/** Who cannot run a model is told so before any of it is asked for. */
import { expect, test, vi } from 'vitest';
import { createLocalEngine } from '../../../src/engine/local-engine';

const withoutAdapter = { requestAdapter: async () => null } as unknown as GPU;

test.each([
  ['no WebGPU', undefined],
  ['no adapter', withoutAdapter],
])('with %s a load is NO_WEBGPU, and no byte is asked for', async (_, gpu) => {
  const [fetch, openStore] = [vi.fn(), vi.fn()];
  const engine = createLocalEngine({ ...(gpu && { gpu }), fetch, openStore });
  for (const url of ['https://example.org/model.gguf', 'hf:owner/name'])
    await expect(engine.load({ kind: 'url', url })).rejects.toMatchObject({ code: 'NO_WEBGPU' });
  expect(fetch).not.toHaveBeenCalled();
  expect(openStore).not.toHaveBeenCalled();
});
