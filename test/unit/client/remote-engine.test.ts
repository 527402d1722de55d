import { afterEach, describe, expect, it, vi } from 'vitest';
import { createEngine, type RemoteEngine } from '../../../src/client/remote-engine';
import type { Engine, GenerateEvent, LoadProgress, MemoryEvent, ModelSource } from '../../../src/engine/engine';
import { EngineError } from '../../../src/errors';
import {
  EndlessStream,
  type EngineScript,
  ScriptedEngine,
  scriptedModel,
  scriptedResult,
  sleep,
  tokenEvent,
} from '../worker/scripted-engine';
import { ChannelWorker } from './channel-worker';

const open: RemoteEngine[] = [];
/** Of what only an abort ends. */
const LONG_MS = 600_000;

function connect(script: EngineScript, unresponsiveMs = 10_000): { engine: RemoteEngine; worker: ChannelWorker } {
  const worker = new ChannelWorker(new ScriptedEngine(script));
  const engine = createEngine({ worker: worker.asWorker(), unresponsiveMs });
  open.push(engine);
  return { engine, worker };
}

afterEach(() => {
  for (const engine of open.splice(0)) engine.terminate();
});

const source: ModelSource = { kind: 'url', url: 'https://example.test/model.gguf' };

async function collect(stream: AsyncIterable<GenerateEvent>): Promise<GenerateEvent[]> {
  const events: GenerateEvent[] = [];
  for await (const event of stream) events.push(event);
  return events;
}

describe('remote engine: calls', () => {
  it('passes arguments and results of every call', async () => {
    const listModels = vi.fn(async () => [{ modelId: 'a', name: 'A', sourceBytes: 3, storedShare: 1 }]);
    const removeModel = vi.fn(async () => {});
    const unload = vi.fn(async () => {});
    const load = vi.fn(async () => scriptedModel);
    const { engine } = connect({ listModels, removeModel, unload, load });
    expect(await engine.listModels('memory')).toEqual([{ modelId: 'a', name: 'A', sourceBytes: 3, storedShare: 1 }]);
    await engine.removeModel('indexeddb', 'a');
    await engine.unload();
    expect(await engine.load(source, { expertBudget: { percent: 25 } })).toEqual(scriptedModel);
    expect(listModels).toHaveBeenCalledWith('memory');
    expect(removeModel).toHaveBeenCalledWith('indexeddb', 'a');
    expect(unload).toHaveBeenCalledOnce();
    expect(load).toHaveBeenCalledWith(source, { expertBudget: { percent: 25 } }, undefined, expect.any(AbortSignal));
  });

  it('tells what changes on the GPU, between calls too, and that it is gone with the worker', async () => {
    let tell: Parameters<Engine['watchMemory']>[0] = () => {};
    const watchMemory: Engine['watchMemory'] = (listener) => {
      tell = listener;
      return () => {};
    };
    const { engine, worker } = connect({ watchMemory, load: async () => scriptedModel });
    const [told, others]: [MemoryEvent[], MemoryEvent[]] = [[], []];
    engine.watchMemory((event) => told.push(event));
    const leave = engine.watchMemory((event) => others.push(event));
    await engine.load(source);
    const device = { adapter: 'another', variants: { kernels: 'other' } };
    const after = {
      slotsPerLayer: 2,
      plannedGpuBytes: 512,
      usedGpuBytes: 500,
      device,
      residency: new Uint8Array([1, 0]),
    };
    const restored: MemoryEvent = { cause: 'restored', message: 'fewer slots', ...after };
    tell(restored);
    await vi.waitFor(() => expect(told).toEqual([restored]), 30_000);
    expect(engine.model).toMatchObject({ slotsPerLayer: 2, plannedGpuBytes: 512, ...device });
    leave();
    worker.fail('out of memory');
    const none = { slotsPerLayer: 0, plannedGpuBytes: 0, usedGpuBytes: 0, device: null, residency: null };
    expect(told.slice(1)).toEqual([{ cause: 'unload', message: expect.stringContaining('out of memory'), ...none }]);
    expect(others).toEqual([restored]);
  });

  it('passes a file by cloning', async () => {
    let seen = '';
    const { engine } = connect({
      load: async (given) => {
        if (given.kind === 'file') seen = `${given.name}: ${await new Response(given.file as Blob).text()}`;
        return scriptedModel;
      },
    });
    await engine.load({ kind: 'file', file: new Blob(['GGUF']), name: 'tiny.gguf' });
    expect(seen).toBe('tiny.gguf: GGUF');
  });

  it('delivers every progress step, in order, before load resolves', async () => {
    const { engine } = connect({
      load: async (_source, _options, onProgress) => {
        for (let done = 1; done <= 50; done++) onProgress?.({ phase: 'compile', done, total: 50 });
        return scriptedModel;
      },
    });
    const steps: LoadProgress[] = [];
    await engine.load(source, undefined, (step) => steps.push(step));
    expect(steps.map((step) => (step.phase === 'compile' ? step.done : 0))).toEqual(
      Array.from({ length: 50 }, (_, index) => index + 1),
    );
  });

  it('aborts a load whose progress callback throws, and rejects with what it threw', async () => {
    let aborted = false;
    const { engine } = connect({
      load: async (_source, _options, onProgress, signal) => {
        onProgress?.({ phase: 'compile', done: 0, total: 1 });
        await sleep(LONG_MS, signal).catch(() => {
          aborted = true;
        });
        return scriptedModel;
      },
    });
    const oops = new Error('page error');
    const loading = engine.load(source, undefined, () => {
      throw oops;
    });
    await expect(loading).rejects.toBe(oops);
    expect(aborted).toBe(true);
  });

  it('keeps code, message and cause of an error', async () => {
    const { engine } = connect({
      load: async () => {
        throw new EngineError('BAD_FILE', 'wrong magic', { cause: new RangeError('at byte 0') });
      },
    });
    const error = await engine.load(source).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(EngineError);
    expect(error).toMatchObject({
      code: 'BAD_FILE',
      message: 'wrong magic',
      cause: { name: 'RangeError', message: 'at byte 0' },
    });
  });

  it('knows the model that a refused load left in place, and that a failed one did not', async () => {
    const scripted = new ScriptedEngine({
      load: async (given) => {
        const name = given.kind === 'file' ? given.name : null;
        if (name === 'busy') throw new EngineError('BUSY', 'load was called while generate is running');
        if (name === 'bad') {
          scripted.model = null;
          throw new EngineError('BAD_FILE', 'wrong magic');
        }
        return scriptedModel;
      },
    });
    const engine = createEngine({ worker: new ChannelWorker(scripted).asWorker() });
    open.push(engine);
    const file = new Blob(['GGUF']);
    await engine.load(source);

    await expect(engine.load({ kind: 'file', file, name: 'busy' })).rejects.toMatchObject({ code: 'BUSY' });
    expect(engine.model).toEqual(scriptedModel);
    await expect(engine.load({ kind: 'url', url: 'no base' })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    expect(engine.model).toEqual(scriptedModel);
    const options = { contextLength: (() => 1) as unknown as number };
    await expect(engine.load(source, options)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    expect(engine.model).toEqual(scriptedModel);
    const aborted = engine.load(source, {}, undefined, AbortSignal.abort('enough'));
    await expect(aborted).rejects.toMatchObject({ code: 'ABORTED' });
    expect(engine.model).toEqual(scriptedModel);

    await expect(engine.load({ kind: 'file', file, name: 'bad' })).rejects.toMatchObject({ code: 'BAD_FILE' });
    expect(engine.model).toBeNull();
  });

  it('rejects arguments that cannot be sent with BAD_ARGUMENT', async () => {
    const { engine } = connect({ load: async () => scriptedModel });
    const options = { contextLength: (() => 1) as unknown as number };
    await expect(engine.load(source, options)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
  });

  it('rejects what is not a URL with BAD_ARGUMENT', async () => {
    const { engine } = connect({ load: async () => scriptedModel });
    await expect(engine.load({ kind: 'url', url: 'http://' })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
  });

  it.each([0, -1, Number.NaN])('refuses unresponsiveMs %d', (unresponsiveMs) => {
    expect(() => createEngine({ unresponsiveMs })).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
  });

  it('says WORKER_DEAD where no worker can be started', async () => {
    const engine = createEngine();
    await expect(engine.unload()).rejects.toMatchObject({ code: 'WORKER_DEAD' });
  });
});

describe('remote engine: abort', () => {
  it('aborts a load through its signal', async () => {
    const { engine } = connect({
      load: (_source, _options, _progress, signal) => sleep(LONG_MS, signal).then(() => scriptedModel),
    });
    const controller = new AbortController();
    const loading = engine.load(source, undefined, undefined, controller.signal);
    setTimeout(() => controller.abort(), 10);
    await expect(loading).rejects.toMatchObject({ code: 'ABORTED' });
  });

  it('sends nothing when the signal was aborted before', async () => {
    const load = vi.fn(async () => scriptedModel);
    const { engine } = connect({ load });
    await expect(engine.load(source, undefined, undefined, AbortSignal.abort())).rejects.toMatchObject({
      code: 'ABORTED',
    });
    expect(load).not.toHaveBeenCalled();
  });

  it('aborts only the call whose signal it is', async () => {
    const { engine } = connect({
      load: (_source, options, _progress, signal) =>
        sleep(options?.contextLength ?? 0, signal).then(() => scriptedModel),
    });
    const controller = new AbortController();
    const aborted = engine.load(source, { contextLength: LONG_MS }, undefined, controller.signal);
    const other = engine.load(source, { contextLength: 50 });
    controller.abort();
    await expect(aborted).rejects.toMatchObject({ code: 'ABORTED' });
    await expect(other).resolves.toEqual(scriptedModel);
  });
});

describe('remote engine: generate', () => {
  it('streams events in order and ends', async () => {
    const events: GenerateEvent[] = [
      { type: 'prefill', done: 2, total: 2, reused: 0 },
      tokenEvent(3, 'one'),
      tokenEvent(4, ' two'),
      tokenEvent(5, ' three'),
      { type: 'done', result: scriptedResult },
    ];
    const { engine } = connect({
      async *generate() {
        yield* events;
      },
    });
    expect(await collect(engine.generate({ prompt: 'count' }))).toEqual(events);
  });

  it('gives each token when it is made, not at the end', async () => {
    const endless = new EndlessStream();
    const { engine } = connect({ generate: (_request, signal) => endless.generate(5, signal) });
    for await (const event of engine.generate({ prompt: 'x' })) {
      expect(endless.given - (event.type === 'token' ? event.tokenId : 0)).toBeLessThan(20);
      if (event.type === 'token' && event.tokenId === 5) break;
    }
  });

  it('starts nothing before it is read', async () => {
    const generate = vi.fn();
    const { engine } = connect({ generate, unload: async () => {} });
    engine.generate({ prompt: 'x' });
    await engine.unload();
    expect(generate).not.toHaveBeenCalled();
  });

  it('throws the coded error after the tokens before it', async () => {
    const { engine } = connect({
      async *generate() {
        yield tokenEvent(3, 'one');
        throw new EngineError('DEVICE_LOST', 'the GPU went away');
      },
    });
    const texts: string[] = [];
    const reading = (async () => {
      for await (const event of engine.generate({ prompt: 'x' })) if (event.type === 'token') texts.push(event.text);
    })();
    await expect(reading).rejects.toMatchObject({ code: 'DEVICE_LOST', message: 'the GPU went away' });
    expect(texts).toEqual(['one']);
  });

  it('stops the worker when the loop is left, and waits until it has stopped', async () => {
    const endless = new EndlessStream();
    const { engine } = connect({ generate: (_request, signal) => endless.generate(1, signal) });
    for await (const event of engine.generate({ prompt: 'x' })) {
      if (event.type === 'token' && event.tokenId >= 3) break;
    }
    expect(endless.stopped).toBe(true);
  });

  it('ends a stream with ABORTED when its signal aborts', async () => {
    const endless = new EndlessStream();
    const { engine } = connect({ generate: (_request, signal) => endless.generate(1, signal) });
    const controller = new AbortController();
    let seen = 0;
    const reading = (async () => {
      for await (const _ of engine.generate({ prompt: 'x' }, controller.signal)) if (++seen === 3) controller.abort();
    })();
    await expect(reading).rejects.toMatchObject({ code: 'ABORTED' });
    expect(endless.stopped).toBe(true);
  });

  it('stops at the next token an engine that does not listen to its signal', async () => {
    const endless = new EndlessStream();
    const { engine } = connect({ generate: () => endless.generate(1) });
    const controller = new AbortController();
    const reading = (async () => {
      for await (const _ of engine.generate({ prompt: 'x' }, controller.signal)) controller.abort();
    })();
    await expect(reading).rejects.toMatchObject({ code: 'ABORTED' });
    expect(endless.stopped).toBe(true);
  });
});

describe('remote engine: death of the worker', () => {
  const never = () => new Promise<never>(() => {});

  it('rejects every pending call and stream when the worker throws outside of a call', async () => {
    const endless = new EndlessStream();
    const { engine, worker } = connect({
      load: never,
      listModels: never,
      removeModel: never,
      unload: never,
      generate: (_request, signal) => endless.generate(1, signal),
    });
    let sawFirst = () => {};
    const first = new Promise<void>((resolve) => {
      sawFirst = resolve;
    });
    const reading = (async () => {
      for await (const _ of engine.generate({ prompt: 'x' })) sawFirst();
    })();
    const pending = [
      engine.load(source),
      engine.listModels('memory'),
      engine.removeModel('memory', 'a'),
      engine.unload(),
      reading,
    ];
    await first;
    worker.fail('Uncaught RangeError: stack');
    const outcomes = await Promise.allSettled(pending);
    for (const outcome of outcomes) {
      expect(outcome.status).toBe('rejected');
      if (outcome.status === 'rejected') {
        expect(outcome.reason).toMatchObject({ code: 'WORKER_DEAD' });
        expect(outcome.reason.message).toContain('Uncaught RangeError: stack (worker.js:7)');
      }
    }
    expect(worker.terminated).toBe(true);
  });

  it('rejects later calls on a worker that was passed in, saying what to do', async () => {
    const { engine, worker } = connect({ unload: never });
    const unloading = engine.unload();
    worker.fail('Uncaught');
    await expect(unloading).rejects.toMatchObject({ code: 'WORKER_DEAD' });
    await expect(engine.listModels('memory')).rejects.toMatchObject({
      code: 'WORKER_DEAD',
      message: expect.stringContaining('Create a new engine with a new worker.'),
    });
  });

  it('starts a fresh worker for the next call after its own died', async () => {
    const workers: ChannelWorker[] = [];
    const answers: EngineScript[] = [{ unload: never }, { listModels: async () => [] }];
    vi.stubGlobal('Worker', function startChannelWorker() {
      const worker = new ChannelWorker(new ScriptedEngine(answers[workers.length] ?? {}));
      workers.push(worker);
      return worker;
    });
    try {
      const engine = createEngine();
      open.push(engine);
      const unloading = engine.unload();
      workers[0]?.fail('Uncaught');
      await expect(unloading).rejects.toMatchObject({
        code: 'WORKER_DEAD',
        message: expect.stringContaining('Load the model again: the next call starts a new worker.'),
      });
      expect(await engine.listModels('memory')).toEqual([]);
      expect(workers.map((worker) => worker.terminated)).toEqual([true, false]);
    } finally {
      vi.unstubAllGlobals();
    }
  });

  it('rejects pending calls when a message cannot be read', async () => {
    const { engine, worker } = connect({ unload: never });
    const unloading = engine.unload();
    worker.dispatchEvent(new Event('messageerror'));
    await expect(unloading).rejects.toMatchObject({ code: 'WORKER_DEAD' });
  });

  it('takes silence for death', async () => {
    const { engine, worker } = connect({ load: never, unload: async () => {} }, 300);
    await engine.unload();
    worker.blocked = true;
    const startMs = performance.now();
    await expect(engine.load(source)).rejects.toMatchObject({
      code: 'WORKER_DEAD',
      // Four times as long where the first ping was not answered before.
      message: expect.stringMatching(/has not answered for (300|1200) ms/),
    });
    expect(performance.now() - startMs).toBeGreaterThan(250);
    expect(worker.terminated).toBe(true);
  });

  it('does not take a long call for death while the event loop answers', async () => {
    const { engine } = connect({ load: () => sleep(900).then(() => scriptedModel) }, 200);
    await expect(engine.load(source)).resolves.toEqual(scriptedModel);
  });

  it('does not watch while nothing is pending', async () => {
    const { engine, worker } = connect({ unload: async () => {} }, 100);
    await engine.unload();
    worker.blocked = true;
    await sleep(500);
    worker.blocked = false;
    await expect(engine.unload()).resolves.toBeUndefined();
  });

  it('rejects pending and later calls after terminate', async () => {
    const { engine, worker } = connect({ load: never });
    const loading = engine.load(source);
    engine.terminate();
    await expect(loading).rejects.toMatchObject({ code: 'WORKER_DEAD' });
    await expect(engine.unload()).rejects.toMatchObject({
      code: 'WORKER_DEAD',
      message: 'The engine was terminated. Create a new one with createEngine().',
    });
    expect(worker.terminated).toBe(true);
  });
});
