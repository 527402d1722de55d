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
});
