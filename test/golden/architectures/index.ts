/**
 * Typed access to the tiny models of every architecture: their GGUF files, and what transformers computes from them.
 * A file is the header that the gguf package wrote, and weights that are drawn here as the oracle drew them.
 * How they are made: ../../oracle/make_architectures.py.
 */
import { type Answers, type AnswersFile, buildGguf, type GgufRules, readAnswers } from '../drawn-weights';
import llamaCpp from '../llama-cpp-architectures.json' with { type: 'json' };

type GoldenFile = AnswersFile & GgufRules;

export interface ArchitectureGolden extends Answers {
  /** The GGUF file. */
  readonly gguf: Uint8Array<ArrayBuffer>;
  /** llama.cpp's log-probabilities in place of logits, where it computes the same. */
  readonly llamaCpp: Answers['prompts'] | null;
}

const files = import.meta.glob<GoldenFile[]>('./*.json', { import: 'default' });

/** Architectures by the names of their files. */
export const architectureNames: readonly string[] = Object.keys(files).map((path) => path.slice(2, -5));

/** @param name one of `architectureNames`. */
export async function loadArchitecture(name: string): Promise<ArchitectureGolden[]> {
  const load = files[`./${name}.json`];
  if (!load) throw new Error(`no golden architecture "${name}"; known: ${architectureNames.join(', ')}`);
  return Promise.all(
    (await load()).map(async (model) => ({
      ...readAnswers(model),
      gguf: await buildGguf(model),
      llamaCpp: readLlamaCpp(model),
    })),
  );
}

function readLlamaCpp(model: GoldenFile): Answers['prompts'] | null {
  const entry = (llamaCpp.models as Readonly<Record<string, { readonly logprobs?: string }>>)[model.name];
  if (!entry) throw new Error(`${model.name} is not in llama-cpp-architectures.json: remake it`);
  return entry.logprobs === undefined ? null : readAnswers({ ...model, logits: entry.logprobs }).prompts;
}
