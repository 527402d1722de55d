/**
 * Typed access to the tiny models of every architecture: their GGUF files, and what transformers computes from them.
 * A file is the header that the gguf package wrote, and weights that are drawn here as the oracle drew them.
 * How they are made: ../../oracle/make_architectures.py.
 */
import { type Answers, type AnswersFile, type DrawnRule, decompress, drawTensor, readAnswers } from '../drawn-weights';

type TensorRule = DrawnRule | { readonly values: readonly number[] };

interface GoldenFile extends AnswersFile {
  /** Everything in front of the tensors' bytes, gzipped, as base64. */
  readonly header: string;
  /** In file order. */
  readonly tensors: Readonly<Record<string, TensorRule>>;
}

export interface ArchitectureGolden extends Answers {
  /** The GGUF file. */
  readonly gguf: Uint8Array<ArrayBuffer>;
}

const files = import.meta.glob<GoldenFile[]>('./*.json', { import: 'default' });

/** Architectures by the names of their files. */
export const architectureNames: readonly string[] = Object.keys(files).map((path) => path.slice(2, -5));

/** @param name one of `architectureNames`. */
export async function loadArchitecture(name: string): Promise<ArchitectureGolden[]> {
  const load = files[`./${name}.json`];
  if (!load) throw new Error(`no golden architecture "${name}"; known: ${architectureNames.join(', ')}`);
  return Promise.all((await load()).map(async (model) => ({ ...readAnswers(model), gguf: await buildFile(model) })));
}

async function buildFile({ header, tensors }: GoldenFile): Promise<Uint8Array<ArrayBuffer>> {
  const parts = [await decompress(header)];
  for (const [name, rule] of Object.entries(tensors)) {
    const floats = 'values' in rule ? Float32Array.from(rule.values) : drawTensor(name, rule);
    const values = new Uint8Array(floats.buffer);
    parts.push(values, new Uint8Array((32 - (values.length % 32)) % 32));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
