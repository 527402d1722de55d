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
  maxTokens: 3,
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

describe('a changed budget', () => {
  it('that waits for a new device does not hold a call that is aborted', async () => {
    const { engine: live, state, lose } = await open();
    await lose();
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    state.wait = () => held;
    const change = live.setExpertBudget({ percent: 25 });
    for (const start of [
      (signal: AbortSignal) => generate(live, request, signal),
      (signal: AbortSignal) => live.score({ tokenIds: request.tokenIds ?? [] }, signal),
    ]) {
      const aborting = new AbortController();
      const failed = catchError(start(aborting.signal));
      aborting.abort();
      expect((await failed).error).toMatchObject({ code: 'ABORTED' });
    }
    release();
    expect(await change).toMatchObject({ slotsPerLayer: 4 });
  });

  it('is that of a new device where the one before was lost while nothing ran', async () => {
    const { engine: live, watched, told, lose } = await open();
    const calm = (await generate(live, request)).result;
    await lose();
    expect(await live.setExpertBudget({ percent: 75 })).toMatchObject({ slotsPerLayer: 12, warning: null });
    expect(watched.devices).toHaveLength(2);
    expect(told.map(({ cause, slotsPerLayer }) => [cause, slotsPerLayer])).toEqual([
      ['lost', 0],
      ['restored', 8],
      ['budget', 12],
    ]);
    const { result } = await generate(live, request);
    expect(result.tokenIds).toEqual(calm.tokenIds);
    expect(result.stats.slotsPerLayer).toBe(12);
    expect(watched.devices).toHaveLength(2);
  });

  it('that the GPU has no room for, nor for the one before any more, leaves a model on a new device, with fewer slots', async () => {
    const { engine: live, watched, told } = await open(100);
    const calm = (await generate(live, request)).result;
    await live.setExpertBudget({ percent: 50 });
    const half = live.model?.plannedGpuBytes ?? 0;
    // Something else has taken its memory meanwhile.
    watched.capacityBytes = half - 16;
    told.length = 0;
    const change = await live.setExpertBudget({ percent: 100 });
    expect(change).toMatchObject({
      slotsPerLayer: 4,
      warning: expect.stringMatching(
        /no room for 16 slots per layer, nor any more .*; a new device has 4: the GPU refused/,
      ),
    });
    expect(live.model).toMatchObject({ slotsPerLayer: 4, plannedGpuBytes: change.plannedGpuBytes });
    expect(watched.liveBytes).toBe(change.plannedGpuBytes);
    expect(told.map(({ cause, slotsPerLayer }) => [cause, slotsPerLayer])).toEqual([
      ['lost', 0],
      ['restored', 4],
      ['budget', 4],
    ]);
    expect(told[1]?.message).toMatch(/for lack of GPU memory, 4 slots per layer instead of 8/);
    expect((await generate(live, request)).result.tokenIds).toEqual(calm.tokenIds);
    // Where not even the smallest budget fits, a call says so, and the next one tries again.
    watched.capacityBytes = half >> 3;
    await expect(live.setExpertBudget({ percent: 50 })).rejects.toMatchObject({ code: 'OUT_OF_GPU_MEMORY' });
    watched.capacityBytes = half;
    expect((await generate(live, request)).result.tokenIds).toEqual(calm.tokenIds);
    expect(live.model?.slotsPerLayer).toBe(4);
  });
});
