/** Typed access to the models of every weight type. How they are made: ../oracle/make_weight_types.py. */
import { type Answers, type AnswersFile, buildGguf, type GgufRules, readAnswers } from './drawn-weights';
import file from './weight-types.json' with { type: 'json' };

export interface WeightTypeGolden extends Answers {
  /** The GGUF file. */
  readonly gguf: Uint8Array<ArrayBuffer>;
}

const models = file as unknown as readonly (AnswersFile & GgufRules)[];

export const weightTypeNames: readonly string[] = models.map(({ name }) => name);

/** @param name one of `weightTypeNames`. */
export async function loadWeightType(name: string): Promise<WeightTypeGolden> {
  const model = models.find((candidate) => candidate.name === name);
  if (!model) throw new Error(`no golden model of weight type "${name}"; known: ${weightTypeNames.join(', ')}`);
  return { ...readAnswers(model), gguf: await buildGguf(model) };
}
