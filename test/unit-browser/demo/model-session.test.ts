import { describe, expect, it } from 'vitest';
import { type ModelChoice, ModelSession } from '../../../demo/model-session';
import { EngineError } from '../../../src/errors';
import { type EngineScript, ScriptedEngine, scriptedModel, sleep } from '../../unit/worker/scripted-engine';

function startSession(load: NonNullable<EngineScript['load']>): ModelSession {
  return new ModelSession(new ScriptedEngine({ load }));
}

function fileChoice(name: string): ModelChoice {
  return { kind: 'file', file: new File(['GGUF'], name) };
}

describe('ModelSession', () => {
  it('takes the embedded model from the address beside the page', async () => {
    let url = '';
    const session = startSession(async (source) => {
      if (source.kind === 'url') url = source.url;
      return scriptedModel;
    });
    await session.load({ kind: 'embedded' }, 50);
    expect(url).toMatch(/^http:.*\/models\/[^/]+\.gguf$/);
    expect((await fetch(url, { method: 'HEAD' })).ok).toBe(true);
  });

  it('passes the budget, the progress and the warnings on', async () => {
    let budget: unknown;
    const seen: unknown[] = [];
    const session = startSession(async (_source, options, onProgress) => {
      budget = options?.expertBudget;
      onProgress?.({ phase: 'warning', message: 'few slots' });
      onProgress?.({ phase: 'weights', doneBytes: 1, totalBytes: 2 });
      return scriptedModel;
    });
    session.follow(() => seen.push(session.value));
    await session.load(fileChoice('a.gguf'), 25);
    expect(budget).toEqual({ percent: 25 });
    expect(seen).toContainEqual(
      expect.objectContaining({ steps: { weights: { phase: 'weights', doneBytes: 1, totalBytes: 2 } } }),
    );
    expect(session.value).toMatchObject({ status: 'ready', model: scriptedModel, warnings: ['few slots'] });
  });

  it('aborts a load when another begins, and waits for its end', async () => {
    const log: string[] = [];
    const session = startSession(async (source, _options, _progress, signal) => {
      const name = source.kind === 'file' ? source.name : '';
      log.push(`${name} begins`);
      await sleep(name === 'slow.gguf' ? 10_000 : 1, signal).finally(() => log.push(`${name} ends`));
      return { ...scriptedModel, name };
    });
    const slow = session.load(fileChoice('slow.gguf'), 50);
    await sleep(20);
    await session.load(fileChoice('fast.gguf'), 50);
    await slow;
    expect(log).toEqual(['slow.gguf begins', 'slow.gguf ends', 'fast.gguf begins', 'fast.gguf ends']);
    expect(session.value).toMatchObject({ status: 'ready', model: { name: 'fast.gguf' } });
  });

  it('keeps the error of a load that failed', async () => {
    const session = startSession(async () => {
      throw new EngineError('BAD_FILE', 'wrong magic');
    });
    await session.load(fileChoice('bad.gguf'), 50);
    expect(session.value).toMatchObject({ status: 'failed', error: { code: 'BAD_FILE', message: 'wrong magic' } });
  });

  it('changes the budget of the model in use without loading it again', async () => {
    let loads = 0;
    const session = new ModelSession(
      new ScriptedEngine({
        load: async () => {
          loads += 1;
          return scriptedModel;
        },
        setExpertBudget: async () => ({ slotsPerLayer: 2, plannedGpuBytes: 512, warning: null }),
      }),
    );
    await session.load(fileChoice('a.gguf'), 50);
    const changing = session.changeBudget(25);
    expect(session.value).toMatchObject({ status: 'ready', budgetChange: { status: 'pending' } });
    await changing;
    expect(loads).toBe(1);
    expect(session.value).toMatchObject({
      model: { slotsPerLayer: 2, plannedGpuBytes: 512 },
      expertPercent: 25,
      budgetChange: { status: 'done', warning: null },
    });
  });

  it('keeps the old budget when the new one is refused or has no room', async () => {
    let refuse = true;
    const session = new ModelSession(
      new ScriptedEngine({
        load: async () => scriptedModel,
        setExpertBudget: async () => {
          if (refuse) throw new EngineError('BUDGET_TOO_SMALL', 'a token needs 2');
          return { slotsPerLayer: 4, plannedGpuBytes: 1024, warning: 'back to 4' };
        },
      }),
    );
    await session.load(fileChoice('a.gguf'), 50);
    await session.changeBudget(25);
    expect(session.value).toMatchObject({
      model: scriptedModel,
      expertPercent: 50,
      budgetChange: { status: 'refused', error: { code: 'BUDGET_TOO_SMALL' } },
    });
    refuse = false;
    await session.changeBudget(100);
    expect(session.value).toMatchObject({ expertPercent: 50, budgetChange: { status: 'done', warning: 'back to 4' } });
  });

  it('has no model any more when the engine died over a budget', async () => {
    const session = new ModelSession(
      new ScriptedEngine({
        load: async () => scriptedModel,
        setExpertBudget: async () => {
          throw new EngineError('WORKER_DEAD', 'gone');
        },
      }),
    );
    await session.load(fileChoice('a.gguf'), 50);
    await session.changeBudget(25);
    expect(session.value).toMatchObject({ status: 'failed', error: { code: 'WORKER_DEAD' } });
  });
});
