/**
 * Weights that are drawn here as the oracle drew them (../oracle/architecture_oracle.py), and the answers kept beside them.
 * Knows of a GGUF file only that tensors lie behind its header, at multiples of 32 bytes.
 */

export interface DrawnRule {
  /** Values of the tensor. */
  readonly count: number;
  /** value = uniform in [-1, 1) · scale + offset, in f32. */
  readonly scale: number;
  readonly offset: number;
}

/** Blocks of a quantised type: random bytes, but for those that hold its scales. */
export interface BlocksRule {
  readonly blocks: number;
  readonly blockBytes: number;
  /** Of every block: at this byte, the random bits under the mask, and the value. */
  readonly set: readonly (readonly [at: number, mask: number, value: number])[];
}

/** The oracle's `hash_indices`: FNV-1a of the name as seed, then a 32-bit mixer of each index. */
function createHash(name: string): (index: number) => number {
  let seed = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) seed = Math.imul(seed ^ byte, 0x01000193);
  return (index) => {
    let x = (Math.imul(index, 0x9e3779b9) + seed) >>> 0;
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b) >>> 0;
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35) >>> 0;
    return (x ^ (x >>> 16)) >>> 0;
  };
}

export function drawTensor(name: string, { count, scale, offset }: DrawnRule): Float32Array<ArrayBuffer> {
  const hash = createHash(name);
  return Float32Array.from({ length: count }, (_, i) => Math.fround(((hash(i) >>> 8) / 2 ** 23 - 1) * scale) + offset);
}

function drawBlocks(name: string, { blocks, blockBytes, set }: BlocksRule): Uint8Array<ArrayBuffer> {
  const hash = createHash(name);
  const bytes = Uint8Array.from({ length: blocks * blockBytes }, (_, i) => hash(i) >>> 24);
  for (let at = 0; at < bytes.length; at += blockBytes) {
    for (const [offset, mask, value] of set) bytes[at + offset] = ((bytes[at + offset] as number) & mask) | value;
  }
  return bytes;
}

/** The oracle's `get_scale_and_offset`. */
export function getDrawnRule(name: string, shape: readonly number[]): DrawnRule {
  const count = shape.reduce((product, length) => product * length, 1);
  if (name.includes('norm') && name.endsWith('.weight')) return { count, scale: 0.5, offset: 1 };
  if (shape.length === 1 || name.endsWith('bias')) return { count, scale: 0.25, offset: 0 };
  return { count, scale: 2 ** Math.round(Math.log2(3 / Math.sqrt(shape.at(-1) as number))), offset: 0 };
}

/** A GGUF file as the oracle keeps it. */
export interface GgufRules {
  /** Everything in front of the tensors' bytes, gzipped, as base64. */
  readonly header: string;
  /** In file order; `values` where they are not drawn. */
  readonly tensors: Readonly<Record<string, DrawnRule | BlocksRule | { readonly values: readonly number[] }>>;
}

export async function buildGguf({ header, tensors }: GgufRules): Promise<Uint8Array<ArrayBuffer>> {
  const parts = [await decompress(header)];
  for (const [name, rule] of Object.entries(tensors)) {
    const bytes = drawBytes(name, rule);
    parts.push(bytes, new Uint8Array((32 - (bytes.length % 32)) % 32));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

function drawBytes(name: string, rule: GgufRules['tensors'][string]): Uint8Array<ArrayBuffer> {
  if ('blocks' in rule) return drawBlocks(name, rule);
  const values = 'values' in rule ? Float32Array.from(rule.values) : drawTensor(name, rule);
  return new Uint8Array(values.buffer);
}

/** As the oracle's files have them. */
export interface AnswersFile {
  readonly name: string;
  readonly vocabSize: number;
  readonly prompts: readonly { readonly tokenIds: readonly number[]; readonly positions: readonly number[] }[];
  /** The last tokens of the last prompt: fed one by one. */
  readonly decodeSteps: number;
  /** f32 rows [vocab] of the prompts' positions, as base64. */
  readonly logits: string;
}

export interface Answers {
  readonly name: string;
  readonly decodeSteps: number;
  readonly prompts: readonly {
    readonly tokenIds: readonly number[];
    readonly positions: readonly number[];
    /** One array [vocab] per position. */
    readonly logits: readonly Float32Array[];
  }[];
}

export function readAnswers({ name, decodeSteps, vocabSize, prompts, logits }: AnswersFile): Answers {
  const values = new Float32Array(decodeBase64(logits).buffer);
  let row = 0;
  const takeRow = () => values.subarray(row * vocabSize, ++row * vocabSize);
  const read = prompts.map((prompt) => ({ ...prompt, logits: prompt.positions.map(takeRow) }));
  if (row * vocabSize !== values.length) throw new Error(`${name} lists ${row} rows: remake it`);
  return { name, decodeSteps, prompts: read };
}

/** Base64 of gzipped bytes. */
export async function decompress(text: string): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([decodeBase64(text)]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
