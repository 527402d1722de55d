/**
 * Typed access to the tiny models of every architecture: their files, and what transformers computes from them.
 * A file is the header that the gguf package wrote, and weights that are drawn here as the oracle drew them.
 * How they are made: ../../oracle/make_architectures.py.
 */

type TensorRule = DrawnTensor | { readonly values: readonly number[] };

interface DrawnTensor {
  /** Values of the tensor. */
  readonly count: number;
  /** value = uniform in [-1, 1) · scale + offset, in f32. */
  readonly scale: number;
  readonly offset: number;
}

interface GoldenFile {
  readonly name: string;
  readonly vocabSize: number;
  /** Everything in front of the tensors' bytes, gzipped, as base64. */
  readonly header: string;
  /** In file order. */
  readonly tensors: Readonly<Record<string, TensorRule>>;
  readonly prompts: readonly { readonly tokenIds: readonly number[]; readonly positions: readonly number[] }[];
  /** The last tokens of the last prompt: fed one by one. */
  readonly decodeSteps: number;
  /** f32 rows [vocab] of the prompts' positions, as base64. */
  readonly logits: string;
}

export interface ArchitectureGolden {
  readonly name: string;
  readonly decodeSteps: number;
  readonly prompts: readonly {
    readonly tokenIds: readonly number[];
    readonly positions: readonly number[];
    /** One array [vocab] per position. */
    readonly logits: readonly Float32Array[];
  }[];
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
  return Promise.all((await load()).map(readModel));
}

async function readModel(model: GoldenFile): Promise<ArchitectureGolden> {
  const logits = new Float32Array(decodeBase64(model.logits).buffer);
  let row = 0;
  const takeRow = () => logits.subarray(row * model.vocabSize, ++row * model.vocabSize);
  const prompts = model.prompts.map((prompt) => ({ ...prompt, logits: prompt.positions.map(takeRow) }));
  if (row * model.vocabSize !== logits.length) throw new Error(`${model.name} lists ${row} rows: remake it`);
  const { name, decodeSteps } = model;
  return { name, decodeSteps, prompts, gguf: await buildFile(model) };
}

async function buildFile({ header, tensors }: GoldenFile): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([decodeBase64(header)]).stream().pipeThrough(new DecompressionStream('gzip'));
  const parts: Uint8Array<ArrayBuffer>[] = [new Uint8Array(await new Response(stream).arrayBuffer())];
  for (const [name, rule] of Object.entries(tensors)) {
    const floats = 'values' in rule ? Float32Array.from(rule.values) : drawTensor(name, rule);
    const values = new Uint8Array(floats.buffer);
    parts.push(values, new Uint8Array((32 - (values.length % 32)) % 32));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** The oracle's `draw`: FNV-1a of the name as seed, then a 32-bit mixer of each index. */
function drawTensor(name: string, { count, scale, offset }: DrawnTensor): Float32Array<ArrayBuffer> {
  let seed = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) seed = Math.imul(seed ^ byte, 0x01000193);
  return Float32Array.from({ length: count }, (_, i) => {
    let x = (Math.imul(i, 0x9e3779b9) + seed) >>> 0;
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b) >>> 0;
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35) >>> 0;
    x = (x ^ (x >>> 16)) >>> 0;
    return Math.fround(((x >>> 8) / 2 ** 23 - 1) * scale) + offset;
  });
}

function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
