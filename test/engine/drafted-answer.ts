/** What guesses may not change of an answer: compared whole, beside the statistics, which they may. */
import type { Engine, GenerateRequest, GenerateResult, TraceEntry } from '../../src/engine/engine';
import { toBits } from './engine-session';

export interface Answer {
  readonly tokenIds: readonly number[];
  readonly bits: readonly string[];
  readonly finishReason: string;
  readonly text: string;
  readonly trace: readonly TraceEntry[];
}

/** Everything that may not depend on guesses, and the statistics, which may. */
export async function answer(engine: Engine, request: GenerateRequest): Promise<[Answer, GenerateResult['stats']]> {
  const trace: TraceEntry[] = [];
  for await (const event of engine.generate({ topLogprobs: 2, trace: true, ...request })) {
    if (event.type === 'routes') trace.push(...event.entries);
    if (event.type !== 'done') continue;
    const { tokenIds, logprobs, finishReason, text, stats } = event.result;
    return [{ tokenIds, bits: toBits(logprobs), finishReason, text, trace }, stats];
  }
  throw new Error('the stream ended without a done event');
}
