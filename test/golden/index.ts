/**
 * Typed access to the golden models and outputs, from Node (disk) and from the browser (fetch beside this module).
 * Never computes or compares anything. How the files are made: ../oracle/README.md.
 */

import type { ModelConfig, WeightType } from '../../src/checkpoint/model-config';
import catalogue from './catalogue.json' with { type: 'json' };
import llamaCpp from './llama-cpp.json' with { type: 'json' };

export interface GoldenPromptIndex {
  readonly tokenIds: readonly number[];
  /** Positions whose logits are kept, ascending. */
  readonly positions: readonly number[];
}

export interface GoldenModel {
  readonly name: string;
  /** The GGUF, gzipped, beside this module; read it with `readGoldenModel`. */
  readonly file: string;
  readonly logitsFile: string;
  /** Type of the matrices; the router and the norms are F32. `e60k8-q4_0` has Q4_0 experts and Q8_0 elsewhere. */
  readonly format: WeightType;
  readonly tiedEmbeddings: boolean;
  readonly config: ModelConfig;
  /** Smallest gap in probability between the last chosen and the first refused expert over everything run. */
  readonly routerMargin: number;
  /** Smallest top-1 lead of the greedy steps, as a share of the largest logit. */
  readonly decodeMargin: number;
  /** Of 1, 7 and 65 random token ids. */
  readonly prompts: readonly GoldenPromptIndex[];
  /** Routing of one prompt: layers[layer].experts[position] in router order, and the weights as used. */
  readonly routing: {
    /** Index into `prompts`. */
    readonly prompt: number;
    readonly layers: readonly { readonly experts: number[][]; readonly weights: number[][] }[];
  };
  /** Greedy continuation of prompts[prompt]; never the end token. */
  readonly decode: { readonly prompt: number; readonly tokenIds: readonly number[] };
}

export interface GoldenPrompt extends GoldenPromptIndex {
  /** One array [vocab] f32 per entry of `positions`. */
  readonly logits: readonly Float32Array[];
}

export interface Golden extends Omit<GoldenModel, 'prompts' | 'decode'> {
  readonly prompts: readonly GoldenPrompt[];
  /** logits[i] [vocab] f32 is what tokenIds[i] was chosen from. */
  readonly decode: GoldenModel['decode'] & { readonly logits: readonly Float32Array[] };
}

/** llama.cpp on the same files: the top-1 token and its lead in logits, per prompt (same order) and position. */
export interface LlamaCppGolden {
  readonly name: string;
  /** Largest difference of any log-probability from transformers'. */
  readonly maxLogprobDifference: number;
  readonly prompts: readonly { readonly top1: readonly number[]; readonly margin: readonly number[] }[];
}

/** Greedy answers of an embedded model, going on after end tokens. */
export interface GoldenChats {
  readonly name: string;
  /** SHA-256 of the GGUF they were computed from, in hexadecimal. */
  readonly sha256: string;
  readonly chats: readonly {
    readonly question: string;
    /** The question as one user message through the model's chat template. */
    readonly rendered: string;
    readonly promptTokenIds: readonly number[];
    readonly tokenIds: readonly number[];
    readonly text: string;
    readonly routerMargin: number;
    /** Smallest top-1 lead over the steps, in logits. */
    readonly top1Margin: number;
    /** Five largest logits as [id, logit], and the normaliser: logprob = logit - logSumExp. */
    readonly steps: readonly { readonly top: readonly (readonly [number, number])[]; readonly logSumExp: number }[];
  }[];
}

/** Every tiny model, in the order they are listed in ../oracle/README.md. */
export const goldenModels: readonly GoldenModel[] = catalogue as GoldenModel[];

/** The models that llama.cpp can run. */
export const llamaCppGoldens: readonly LlamaCppGolden[] = llamaCpp.models;
/** The same of ./weight-types.ts. */
export const weightTypeLlamaCppGoldens: readonly LlamaCppGolden[] = llamaCpp.weightTypes;

/** Bytes of a file beside this module. */
async function readBeside(file: string): Promise<Uint8Array<ArrayBuffer>> {
  const url = new URL(file, new URL('.', import.meta.url));
  if (url.protocol === 'file:') {
    const { readFile } = await import('node:fs/promises');
    return new Uint8Array(await readFile(url));
  }
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** Inflates gzip; a dev server that declares .gz as an encoding has done so already. */
async function inflate(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function getGoldenModel(name: string): GoldenModel {
  const model = goldenModels.find((candidate) => candidate.name === name);
  if (model) return model;
  throw new Error(`no golden model "${name}"; known: ${goldenModels.map((known) => known.name).join(', ')}`);
}

/** Reads the plain GGUF bytes of a golden model. */
export async function readGoldenModel(name: string): Promise<Uint8Array<ArrayBuffer>> {
  return inflate(await readBeside(getGoldenModel(name).file));
}

/** Loads a golden model's outputs: rows of logits lie in the order of the prompts' positions, then the decode steps. */
export async function loadGolden(name: string): Promise<Golden> {
  const model = getGoldenModel(name);
  const values = new Float32Array((await readBeside(model.logitsFile)).buffer);
  const { vocabSize } = model.config;
  let row = 0;
  const takeRow = () => values.subarray(row * vocabSize, ++row * vocabSize);
  const prompts = model.prompts.map((prompt) => ({ ...prompt, logits: prompt.positions.map(takeRow) }));
  const decode = { ...model.decode, logits: model.decode.tokenIds.map(takeRow) };
  if (row * vocabSize !== values.length) {
    throw new Error(
      `${model.logitsFile} has ${values.length} values; ${row} rows of ${vocabSize} are listed: remake it`,
    );
  }
  return { ...model, prompts, decode };
}

/** Loads the golden answers of an embedded model by its `general.name`, such as "webmoe-chat-22m". */
export async function loadGoldenChats(name: string): Promise<GoldenChats> {
  return JSON.parse(new TextDecoder().decode(await readBeside(`${name}.json`))) as GoldenChats;
}
