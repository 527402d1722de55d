/**
 * What a loaded model is on the device that takes a lost one's place. The devices are shared ones, lost between two passes;
 * device-loss.test.ts has real losses, in the middle of one.
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { Engine, GenerateEvent, GenerateRequest, MemoryEvent } from '../../src/engine/engine';
import { borrow } from '../../tools/borrow';
import { goldenModels } from '../golden';
import { catchError, generate, openSession } from './engine-session';
import { sharedGpu } from './shared-gpu';
import { watchGpu } from './watched-gpu';

const NAME = 'e16k4-f32';
const prompts = goldenModels.find(({ name }) => name === NAME)?.prompts ?? [];
const request: GenerateRequest = {
  tokenIds: prompts.flatMap(({ tokenIds }) => tokenIds),
  maxTokens: 4,
  ignoreEos: true,
  draft: { kind: 'off' },
};

let engine: Engine | undefined;
afterEach(async () => {
  await engine?.unload();
  engine = undefined;
});

/** A GPU whose adapter may change its name, and whose devices and kernels may have to be waited for. */
async function open(percent = 50) {
  const state = { name: 'first', wait: async (_for: 'adapter' | 'kernel'): Promise<void> => {} };
  const openDevice = async (adapter: GPUAdapter, descriptor?: GPUDeviceDescriptor): Promise<GPUDevice> => {
    const device = await adapter.requestDevice(descriptor);
    const compile = device.createComputePipelineAsync.bind(device);
    device.createComputePipelineAsync = (source) => state.wait('kernel').then(() => compile(source));
    return device;
  };
  const gpu = borrow(sharedGpu, {
    async requestAdapter(options?: GPURequestAdapterOptions) {
      await state.wait('adapter');
      const adapter = await sharedGpu.requestAdapter(options);
      if (!adapter) return null;
      const info = borrow(adapter.info, { description: state.name });
      return borrow(adapter, { info, requestDevice: (descriptor) => openDevice(adapter, descriptor) });
    },
  });
  const watched = watchGpu(gpu);
  const session = await openSession(NAME, { expertBudget: { percent } }, { gpu: watched.gpu });
  engine = session.engine;
  const told: MemoryEvent[] = [];
  engine.watchMemory((event) => told.push(event));
  const lose = async (): Promise<void> => {
    const device = watched.devices.at(-1) as GPUDevice;
    device.destroy();
    await device.lost;
  };
  return { engine: session.engine, state, watched, told, lose };
}

describe('another adapter in the place of a lost one', () => {
  it('goes on with an answer that has no token yet, and the model says what it runs on', async () => {
    const { engine: live, state, told, lose } = await open();
    const calm = (await generate(live, request)).result;
    const events: GenerateEvent[] = [];
    state.name = 'second';
    await lose();
    for await (const event of live.generate(request)) events.push(event);
    expect(events.find((event) => event.type === 'warning')).toMatchObject({
      message: expect.stringMatching(/was lost.*second \(kernels .*\) instead of .*first \(kernels /),
    });
    expect(events.flatMap((event) => (event.type === 'token' ? [event.tokenId] : []))).toEqual(calm.tokenIds);
    const done = events.at(-1);
    expect(done?.type === 'done' && done.result.stats.adapter).toMatch(/second$/);
    expect(live.model?.adapter).toMatch(/second$/);
    expect(told.map(({ cause }) => cause)).toEqual(['lost', 'restored']);
    expect(told[1]?.message).toMatch(/the new device is .*second \(kernels .*\) instead of .*first \(kernels /);
    expect(told[1]?.device).toEqual({ adapter: live.model?.adapter, variants: live.model?.variants });
  });

  it('ends an answer that has tokens with DEVICE_LOST, and serves the next call', async () => {
    const { engine: live, state, lose } = await open();
    const calm = (await generate(live, request)).result;
    let given = 0;
    const answer = async (): Promise<void> => {
      for await (const event of live.generate(request)) {
        if (event.type !== 'token' || ++given !== 2) continue;
        state.name = 'second';
        await lose();
      }
    };
    const { error } = await catchError(answer());
    expect(error).toMatchObject({
      code: 'DEVICE_LOST',
      message: expect.stringMatching(/second \(kernels .*2 tokens of the answer .* ask again/),
    });
    expect(given).toBe(2);
    expect(live.model?.adapter).toMatch(/second$/);
    const again = (await generate(live, request)).result;
    // What the first adapter had computed of the prompt is not taken over.
    expect(again.stats.reusedTokens).toBe(0);
    expect(again.tokenIds).toEqual(calm.tokenIds);
  });
});

describe('an abort while a lost device is rebuilt', () => {
  it('is heard while the adapter, or a kernel, is waited for; the next call has its device', async () => {
    const { engine: live, state, lose } = await open();
    const calm = (await generate(live, request)).result;
    for (const slow of ['adapter', 'kernel'] as const) {
      await lose();
      for (const call of ['generate', 'score'] as const) {
        const aborting = new AbortController();
        // Never comes.
        state.wait = (what) =>
          new Promise((resolve) => (what === slow ? setTimeout(() => aborting.abort()) : resolve()));
        const answer =
          call === 'generate'
            ? generate(live, request, aborting.signal)
            : live.score({ tokenIds: request.tokenIds ?? [] }, aborting.signal);
        expect((await catchError(answer)).error).toMatchObject({ code: 'ABORTED' });
      }
      state.wait = async () => {};
      expect((await generate(live, request)).result.tokenIds).toEqual(calm.tokenIds);
    }
  });
});
