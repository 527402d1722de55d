/** The real worker terminated from outside, at ten moments of its life: nothing stays pending, and the next engine works. */
import { beforeAll, describe, expect, it } from 'vitest';
import { createEngine, type RemoteEngine } from '../../../src/client/remote-engine';
import type { GenerateEvent, LoadProgress } from '../../../src/engine/engine';
import { goldenModels, readGoldenModel } from '../../golden';

const NAME = 'e5k1-gqa-q4_0';
const file = new Blob([await readGoldenModel(NAME)]);
const source = { kind: 'file', file, name: `${NAME}.gguf` } as const;
const options = { store: 'memory', expertBudget: { percent: 50 } } as const;
const tokenIds = goldenModels.find(({ name }) => name === NAME)?.prompts[0]?.tokenIds ?? [1];
const request = { tokenIds, maxTokens: 12, ignoreEos: true } as const;
const LIMIT_MS = 2000;

/** What has happened when the worker is terminated; each is reached by a load and a generation, in this order. */
const moments = [
  'load called',
  'install',
  'weights',
  'compile',
  'loaded',
  'generate called',
  'prefill',
  'token 1',
  'token 5',
  'budget changing',
] as const;
type Moment = (typeof moments)[number];

/** Runs through a load and a generation; `reach` hears of every moment. */
async function live(engine: RemoteEngine, reach: (moment: Moment) => void): Promise<number[]> {
  const onProgress = ({ phase }: LoadProgress) => phase !== 'warning' && reach(phase);
  const loading = engine.load(source, options, onProgress);
  reach('load called');
  await loading;
  reach('loaded');
  const got: number[] = [];
  const events: AsyncIterator<GenerateEvent> = engine.generate(request)[Symbol.asyncIterator]();
  const first = events.next();
  reach('generate called');
  for (let step = await first; !step.done; step = await events.next()) {
    const { value: event } = step;
    if (event.type === 'prefill') reach('prefill');
    if (event.type !== 'token') continue;
    got.push(event.tokenId);
    if (got.length === 1) reach('token 1');
    if (got.length === 5) reach('token 5');
    if (got.length !== 6) continue;
    const change = engine.setExpertBudget({ percent: 100 });
    change.catch(() => {});
    reach('budget changing');
    await change;
  }
  return got;
}

async function liveUndisturbed(): Promise<number[]> {
  const engine = createEngine();
  try {
    return await live(engine, () => {});
  } finally {
    engine.terminate();
  }
}

describe('a terminated worker', () => {
  let expected: number[];

  beforeAll(async () => {
    expected = await liveUndisturbed();
    expect(expected).toHaveLength(request.maxTokens);
  });

  // A test each, so that a moment which leaves something pending for ever is named.
  it.each(moments)('leaves nothing pending for 2 s: %s', async (moment) => {
    const engine = createEngine();
    let terminatedMs = Number.NaN;
    const ended = live(engine, (reached) => {
      if (reached !== moment || !Number.isNaN(terminatedMs)) return;
      terminatedMs = performance.now();
      engine.terminate();
    });
    await expect(ended).rejects.toMatchObject({ code: 'WORKER_DEAD' });
    expect(performance.now() - terminatedMs).toBeLessThan(LIMIT_MS);
    await expect(engine.listModels('memory')).rejects.toMatchObject({ code: 'WORKER_DEAD' });
  });

  it('does not keep the next one from loading and answering', async () => {
    expect(await liveUndisturbed()).toEqual(expected);
  });
});
