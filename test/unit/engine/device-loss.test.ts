/** What a caller sees of attempts that end with the device: every event once. Whole engines: test/engine/device-loss.test.ts. */
import { describe, expect, it } from 'vitest';
import {
  buildThroughLosses,
  type LossHandler,
  retryThroughLosses,
  streamThroughLosses,
} from '../../../src/engine/device-loss';
import type { GenerateEvent } from '../../../src/engine/engine';
import { EngineError } from '../../../src/errors';
import { scriptedResult, tokenEvent } from '../worker/scripted-engine';

const lost = new EngineError('DEVICE_LOST', 'the device was lost');
const handler: LossHandler = { readLoss: async () => lost, restore: async () => null };
const otherForm: LossHandler = { ...handler, restore: async () => 'B (kernels tree) instead of A (kernels plain)' };
const prefill = (done: number, reused: number): GenerateEvent => ({ type: 'prefill', done, total: 70, reused });

async function readAll(
  attempts: readonly (readonly GenerateEvent[])[],
  through = handler,
  events: GenerateEvent[] = [],
): Promise<GenerateEvent[]> {
  let attempt = 0;
  const start = async function* () {
    const script = attempts[attempt++] ?? [];
    yield* script;
    if (script.at(-1)?.type !== 'done') throw lost;
  };
  for await (const event of streamThroughLosses(through, start)) events.push(event);
  return events;
}

describe('a stream through losses', () => {
  it('gives every token once, also where the first attempt had kept a part of the prompt that the second computes', async () => {
    const tokens = [7, 8, 9].map((tokenId) => tokenEvent(tokenId, `${tokenId} `));
    const done: GenerateEvent = { type: 'done', result: scriptedResult };
    const events = await readAll([
      [prefill(70, 64), ...tokens.slice(0, 2)],
      [prefill(32, 0), prefill(64, 0)],
      [prefill(32, 0), prefill(64, 0), prefill(70, 0), ...tokens, done],
    ]);
    expect(events.map(({ type }) => type)).toEqual([
      'prefill',
      'token',
      'token',
      'warning',
      'warning',
      'token',
      'done',
    ]);
    expect(events.flatMap((event) => (event.type === 'token' ? [event.tokenId] : []))).toEqual([7, 8, 9]);
  });

  it('goes on with a prompt where it was', async () => {
    const events = await readAll([
      [prefill(32, 0)],
      [prefill(32, 0), prefill(64, 0), prefill(70, 0), { type: 'done', result: scriptedResult }],
    ]);
    expect(events.flatMap((event) => (event.type === 'prefill' ? [event.done] : []))).toEqual([32, 64, 70]);
  });

  it('goes on with a device that computes in another form while no token is given, and says what it is', async () => {
    const events = await readAll(
      [
        [prefill(32, 0)],
        [prefill(32, 0), prefill(70, 0), tokenEvent(7, '7 '), { type: 'done', result: scriptedResult }],
      ],
      otherForm,
    );
    expect(events.map(({ type }) => type)).toEqual(['prefill', 'warning', 'prefill', 'token', 'done']);
    expect(events[1]).toMatchObject({ message: expect.stringContaining('B (kernels tree) instead of A') });
  });

  it('ends with DEVICE_LOST where a token is given and the new device computes in another form', async () => {
    const given: GenerateEvent[] = [];
    await expect(readAll([[prefill(70, 0), tokenEvent(7, '7 ')]], otherForm, given)).rejects.toMatchObject({
      code: 'DEVICE_LOST',
      message: expect.stringMatching(/the device was lost; the new device is B.*1 tokens .* ask again/),
    });
    expect(given.map(({ type }) => type)).toEqual(['prefill', 'token']);
  });

  it('ends with DEVICE_LOST, not as a bug, where a device of the same name computes another token', async () => {
    const given: GenerateEvent[] = [];
    const first = [tokenEvent(7, '7 '), tokenEvent(8, '8 ')];
    await expect(readAll([first, [tokenEvent(7, '7 '), tokenEvent(9, '9 ')]], handler, given)).rejects.toMatchObject({
      code: 'DEVICE_LOST',
      message: expect.stringMatching(/token 9 for 8; 2 tokens .* ask again/),
    });
    expect(given.map(({ type }) => type)).toEqual(['token', 'token', 'warning']);
  });
});

describe('an abort', () => {
  const lose = async (): Promise<never> => {
    throw lost;
  };

  it('reaches the device that is being made in the place of a lost one', async () => {
    const { signal } = new AbortController();
    const heard: unknown[] = [];
    const restore: LossHandler['restore'] = async (_shrink, given) => {
      heard.push(given);
      throw new EngineError('ABORTED', 'aborted by the caller');
    };
    await expect(retryThroughLosses({ ...handler, restore }, lose, signal)).rejects.toMatchObject({ code: 'ABORTED' });
    const start = async function* (): AsyncGenerator<GenerateEvent> {
      yield await lose();
    };
    const stream = streamThroughLosses({ ...handler, restore }, start, signal);
    await expect(stream.next()).rejects.toMatchObject({ code: 'ABORTED' });
    expect(heard).toEqual([signal, signal]);
  });

  it('ends the wait for a GPU that is not there yet, and no more are tried', async () => {
    const aborting = new AbortController();
    let tries = 0;
    const build = async (): Promise<never> => {
      if (++tries === 2) queueMicrotask(() => aborting.abort());
      return lose();
    };
    await expect(buildThroughLosses(build, aborting.signal)).rejects.toMatchObject({ code: 'ABORTED' });
    expect(tries).toBe(2);
  });
});
