/** Opening the learned predictor's worker: what does not come ends within its limit, or by the caller's signal. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { EngineError } from '../../../src/errors';
import { openPathModel } from '../../../src/worker/path-model';

const shape = { layers: 2, experts: 4, expertsPerToken: 2 };
const network = Uint8Array.of(1);

/** A worker whose script never comes, or that answers at once. */
class ScriptedWorker {
  static readonly all: ScriptedWorker[] = [];
  static isSilent = true;
  isTerminated = false;
  onmessage: ((event: { readonly data: object }) => void) | null = null;

  constructor() {
    ScriptedWorker.all.push(this);
  }

  postMessage(): void {
    if (!ScriptedWorker.isSilent) queueMicrotask(() => this.onmessage?.({ data: { kind: 'opened' } }));
  }

  terminate(): void {
    this.isTerminated = true;
  }
}

beforeEach(() => {
  ScriptedWorker.all.length = 0;
  ScriptedWorker.isSilent = true;
  vi.stubGlobal('Worker', ScriptedWorker);
});
afterEach(() => vi.unstubAllGlobals());

it('gives up a worker that is not open in time, and ends it', async () => {
  await expect(openPathModel(network, shape, () => {}, undefined, 20)).rejects.toMatchObject({
    code: 'WORKER_DEAD',
    message: expect.stringMatching(/nothing came for 0\.02 s.*use another predictor/),
  });
  expect(ScriptedWorker.all.map(({ isTerminated }) => isTerminated)).toEqual([true]);
});

it('waits for a worker that still comes, however long that takes', async () => {
  vi.useFakeTimers();
  try {
    const opening = openPathModel(network, shape, () => {});
    const ended = opening.then(
      () => 'open',
      ({ code }: EngineError) => code,
    );
    const [worker] = ScriptedWorker.all;
    for (let i = 0; i < 5; i++) {
      await vi.advanceTimersByTimeAsync(59_000);
      worker?.onmessage?.({ data: { kind: 'progress' } });
    }
    expect(worker?.isTerminated).toBe(false);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(await ended).toBe('WORKER_DEAD');
    expect(worker?.isTerminated).toBe(true);
  } finally {
    vi.useRealTimers();
  }
});

it('ends with the signal, before and while it opens', async () => {
  const controller = new AbortController();
  const opening = openPathModel(network, shape, () => {}, controller.signal);
  controller.abort();
  await expect(opening).rejects.toMatchObject({ code: 'ABORTED' });
  await expect(openPathModel(network, shape, () => {}, controller.signal)).rejects.toMatchObject({ code: 'ABORTED' });
  expect(ScriptedWorker.all.map(({ isTerminated }) => isTerminated)).toEqual([true, true]);
});

it('keeps an open worker whatever the signal and the limit do then', async () => {
  ScriptedWorker.isSilent = false;
  const controller = new AbortController();
  const model = await openPathModel(network, shape, () => {}, controller.signal, 5);
  controller.abort();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(ScriptedWorker.all.map(({ isTerminated }) => isTerminated)).toEqual([false]);
  model.close();
  expect(ScriptedWorker.all.map(({ isTerminated }) => isTerminated)).toEqual([true]);
});
