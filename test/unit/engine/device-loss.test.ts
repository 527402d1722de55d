/** What a caller sees of attempts that end with the device: every event once. Whole engines: test/engine/device-loss.test.ts. */
import { describe, expect, it } from 'vitest';
import { type LossHandler, streamThroughLosses } from '../../../src/engine/device-loss';
import type { GenerateEvent } from '../../../src/engine/engine';
import { EngineError } from '../../../src/errors';
import { scriptedResult, tokenEvent } from '../worker/scripted-engine';

const lost = new EngineError('DEVICE_LOST', 'the device was lost');
const handler: LossHandler = { readLoss: async () => lost, restore: async () => {} };
const prefill = (done: number, reused: number): GenerateEvent => ({ type: 'prefill', done, total: 70, reused });

async function readAll(attempts: readonly (readonly GenerateEvent[])[]): Promise<GenerateEvent[]> {
  let attempt = 0;
  const events: GenerateEvent[] = [];
  const start = async function* () {
    const script = attempts[attempt++] ?? [];
    yield* script;
    if (script.at(-1)?.type !== 'done') throw lost;
  };
  for await (const event of streamThroughLosses(handler, start)) events.push(event);
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
});
