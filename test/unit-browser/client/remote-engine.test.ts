import { afterEach, describe, expect, it, vi } from 'vitest';
import { createEngine, type RemoteEngine } from '../../../src/client/remote-engine';
import type { GenerateEvent } from '../../../src/engine/engine';

const open: RemoteEngine[] = [];
afterEach(() => {
  for (const engine of open.splice(0)) engine.terminate();
});

function connect(worker: Worker, unresponsiveMs = 20_000): RemoteEngine {
  const engine = createEngine({ worker, unresponsiveMs });
  open.push(engine);
  return engine;
}

function scriptedWorker(): Worker {
  return new Worker(new URL('./scripted-worker.ts', import.meta.url), { type: 'module' });
}

/** Reads to the end; resolves `alive` at the first event. */
function read(engine: RemoteEngine, prompt: string, signal?: AbortSignal) {
  const events: GenerateEvent[] = [];
  let alive = () => {};
  const first = new Promise<void>((resolve) => {
    alive = resolve;
  });
  const end = (async () => {
    for await (const event of engine.generate({ prompt }, signal)) {
      events.push(event);
      alive();
    }
  })();
  end.catch(() => {});
  return { events, first, end };
}

describe('remote engine over a real worker', () => {
  it('streams tokens and the result', async () => {
    const { events, end } = read(connect(scriptedWorker()), 'count');
    await end;
    expect(events.map((event) => event.type)).toEqual(['token', 'token', 'token', 'token', 'token', 'done']);
  });

  it('hands a File over', async () => {
    const file = new File(['GGUF'], 'tiny.gguf');
    const model = await connect(scriptedWorker()).load({ kind: 'file', file, name: file.name });
    expect(model.name).toBe('tiny.gguf: GGUF');
  });

  it('asks the browser to keep what a URL is installed from, and for no file that is read in place', async () => {
    vi.spyOn(navigator.storage, 'persisted').mockResolvedValue(false);
    const persist = vi.spyOn(navigator.storage, 'persist').mockResolvedValue(true);
    const engine = connect(scriptedWorker());
    await engine.load({ kind: 'file', file: new File(['GGUF'], 'tiny.gguf'), name: 'tiny.gguf' });
    await engine.load({ kind: 'url', url: 'models/a.gguf' }, { store: 'memory' }).catch(() => {});
    expect(persist).not.toHaveBeenCalled();
    await engine.load({ kind: 'url', url: 'models/a.gguf' }).catch(() => {});
    expect(persist).toHaveBeenCalledOnce();
    vi.restoreAllMocks();
  });

  it('keeps code and cause of an error, and takes a relative URL relative to the page', async () => {
    const loading = connect(scriptedWorker()).load({ kind: 'url', url: 'models/a.gguf' });
    await expect(loading).rejects.toMatchObject({
      code: 'NETWORK',
      message: new URL('models/a.gguf', document.baseURI).href,
      cause: { name: 'TypeError', message: 'Failed to fetch' },
    });
  });

  it('takes the files of a forecast relative to the page too', async () => {
    const forecast = { taughtUrl: 'models/a.forecast.gz', learnedUrl: 'https://example.test/a.onnx' };
    const loading = connect(scriptedWorker()).load({ kind: 'url', url: 'models/a.gguf' }, { forecast });
    const taughtUrl = new URL(forecast.taughtUrl, document.baseURI).href;
    await expect(loading).rejects.toMatchObject({ message: JSON.stringify({ ...forecast, taughtUrl }) });
  });

  it('aborts a stream and can stream again', async () => {
    const engine = connect(scriptedWorker());
    const controller = new AbortController();
    const endless = read(engine, 'endless', controller.signal);
    await endless.first;
    controller.abort();
    await expect(endless.end).rejects.toMatchObject({ code: 'ABORTED' });
    await read(engine, 'count').end;
  });

  it('rejects every pending call when the worker throws outside of a call', async () => {
    const engine = connect(scriptedWorker());
    const listing = engine.listModels('memory');
    const stream = read(engine, 'throw outside');
    await expect(stream.end).rejects.toMatchObject({
      code: 'WORKER_DEAD',
      message: expect.stringContaining('thrown outside of any call'),
    });
    await expect(listing).rejects.toMatchObject({ code: 'WORKER_DEAD' });
  });

  it('rejects the first call when the script throws at the top level', async () => {
    const worker = new Worker(new URL('./throwing-worker.ts', import.meta.url), { type: 'module' });
    await expect(connect(worker).unload()).rejects.toMatchObject({
      code: 'WORKER_DEAD',
      message: expect.stringContaining('thrown at the top level'),
    });
  });

  it('rejects the first call when the script cannot be loaded', async () => {
    const url = URL.createObjectURL(new Blob(['import "./nowhere.js"'], { type: 'text/javascript' }));
    await expect(connect(new Worker(url, { type: 'module' })).unload()).rejects.toMatchObject({ code: 'WORKER_DEAD' });
    URL.revokeObjectURL(url);
  });

  it.each(['close', 'spin'])('notices a worker that falls silent: %s', async (prompt) => {
    const engine = connect(scriptedWorker(), 600);
    const listing = engine.listModels('memory');
    const stream = read(engine, prompt);
    await stream.first;
    await expect(stream.end).rejects.toMatchObject({
      code: 'WORKER_DEAD',
      message: expect.stringContaining('has not answered'),
    });
    await expect(listing).rejects.toMatchObject({ code: 'WORKER_DEAD' });
  });

  it('notices that its worker was terminated by somebody else', async () => {
    const worker = scriptedWorker();
    const engine = connect(worker, 600);
    const stream = read(engine, 'endless');
    await stream.first;
    worker.terminate();
    await expect(stream.end).rejects.toMatchObject({ code: 'WORKER_DEAD' });
  });

  it('rejects pending calls on terminate', async () => {
    const engine = connect(scriptedWorker());
    const stream = read(engine, 'endless');
    await stream.first;
    engine.terminate();
    await expect(stream.end).rejects.toMatchObject({ code: 'WORKER_DEAD' });
  });
});
