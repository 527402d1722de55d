/** What a self-draft on the embedded model has to bring, in counters, which no clock touches. See docs/drafting.md. */
import { afterAll, expect, it } from 'vitest';
import type { DraftOptions } from '../../src/engine/engine';
import { ladderPrompts } from '../../tools/perf/prompts';
import { generate, openSession } from './engine-session';

const isFull = Boolean(import.meta.env.WEBMOE_FULL);
/** The model has seen none of them. */
const prompts = ladderPrompts.slice(0, isFull ? undefined : 1);
const maxTokens = isFull ? 48 : 24;

const pointer = await (await fetch('/models/default.json')).json();
const bytes = new Uint8Array(await (await fetch(`/${pointer.url}`)).arrayBuffer());
const { engine } = await openSession(bytes, { expertBudget: { percent: 50 } });
afterAll(() => engine.unload());

/** Per token, over all prompts. */
async function count(draft: DraftOptions) {
  const total = { tokens: 0, passes: 0, roundTrips: 0, uploadBytes: 0 };
  const answers: string[] = [];
  for (const { text } of prompts) {
    const { result } = await generate(engine, {
      messages: [{ role: 'user', content: text }],
      maxTokens,
      ignoreEos: true,
      topLogprobs: 0,
      draft,
      // As in the ladder's rungs (d) and (g).
      paging: { predictor: 'none', runAhead: true, segmentLayers: 1024 },
    });
    const { generatedTokens, roundTrips, uploadBytes, draft: guesses } = result.stats;
    total.tokens += generatedTokens - 1;
    total.passes += guesses.passes;
    total.roundTrips += roundTrips;
    total.uploadBytes += uploadBytes.demand + uploadBytes.useful + uploadBytes.wasted;
    answers.push(JSON.stringify([result.tokenIds, result.logprobs]));
  }
  return {
    tokensPerPass: total.tokens / total.passes,
    roundTripsPerToken: total.roundTrips / total.tokens,
    uploadBytesPerToken: total.uploadBytes / total.tokens,
    answers,
  };
}

// The aim at 50 % is 1.15 times the uploads: twelve validation prompts keep it (docs/drafting.md), these three, which are harder
// to guess, do not (1.23). The first prompt alone gives 2.88 tokens a pass, all three 3.36.
it.each([
  { percent: 50, tokens: 4, tokensPerPass: isFull ? 3 : 2.8, roundTripsPerToken: 1, uploads: 1.25 },
  { percent: 25, tokens: 2, tokensPerPass: 1, roundTripsPerToken: 1.6, uploads: 1.5 },
])(
  'with $percent% of the experts a draft of $tokens needs at most $roundTripsPerToken round trips a token and $uploads times the uploads',
  async (asked) => {
    await engine.setExpertBudget({ percent: asked.percent });
    const off = await count({ kind: 'off' });
    const self = await count({ kind: 'self', tokens: asked.tokens });
    expect(self.answers).toEqual(off.answers);
    expect(self.tokensPerPass).toBeGreaterThanOrEqual(asked.tokensPerPass);
    expect(self.roundTripsPerToken).toBeLessThanOrEqual(asked.roundTripsPerToken);
    expect(self.uploadBytesPerToken).toBeLessThanOrEqual(asked.uploads * off.uploadBytesPerToken);
  },
);
