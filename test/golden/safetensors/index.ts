/**
 * Typed access to the tiny models of every architecture as folders of safetensors, and what transformers computes from them.
 * A folder has the config.json and the directory of tensors that transformers saved, weights that are drawn here as the
 * oracle drew them, and a tokenizer of as many tokens. How they are made: ../../oracle/make_safetensors.py.
 */
import {
  type Answers,
  type AnswersFile,
  decompress,
  drawTensor,
  getDrawnRule,
  readAnswers,
} from '../drawn-weights';

export interface FolderFile extends AnswersFile {
  /** config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Length and directory of model.safetensors, gzipped, as base64. */
  readonly header: string;
}

export interface SafetensorsGolden extends Answers {
  /** The folder's files by path. */
  readonly folder: Map<string, Uint8Array<ArrayBuffer>>;
}

const files = import.meta.glob<FolderFile[]>('./*.json', { import: 'default' });

/** Architectures by the names of their files. */
export const safetensorsNames: readonly string[] = Object.keys(files).map((path) => path.slice(2, -5));

const loaded = new Map<string, Promise<SafetensorsGolden[]>>();

/** Loads once. @param name one of `safetensorsNames`. */
export function loadSafetensors(name: string): Promise<SafetensorsGolden[]> {
  const models = loaded.get(name) ?? readFolders(name);
  loaded.set(name, models);
  return models;
}

async function readFolders(name: string): Promise<SafetensorsGolden[]> {
  const load = files[`./${name}.json`];
  if (!load) throw new Error(`no golden safetensors "${name}"; known: ${safetensorsNames.join(', ')}`);
  return buildFolders(await load());
}

export function buildFolders(models: readonly FolderFile[]): Promise<SafetensorsGolden[]> {
  return Promise.all(models.map(async (model) => ({ ...readAnswers(model), folder: await buildFolder(model) })));
}

async function buildFolder({ config, header, vocabSize }: FolderFile): Promise<SafetensorsGolden['folder']> {
  const vocab = Object.fromEntries(Array.from({ length: vocabSize }, (_, id) => [`t${id}`, id]));
  return new Map([
    ['config.json', toJson(config)],
    ['tokenizer.json', toJson({ pre_tokenizer: { type: 'ByteLevel' }, model: { type: 'BPE', vocab, merges: [] } })],
    ['model.safetensors', await buildFile(header)],
  ]);
}

async function buildFile(header: string): Promise<Uint8Array<ArrayBuffer>> {
  const front = await decompress(header);
  const directory = JSON.parse(new TextDecoder().decode(front.subarray(8))) as Record<string, Entry>;
  const tensors = Object.entries(directory).filter(([name]) => name !== '__metadata__');
  tensors.sort(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0]);
  const values = tensors.map(([name, { shape }]) => drawTensor(name, getDrawnRule(name, shape)));
  return new Uint8Array(await new Blob([front, ...values]).arrayBuffer());
}

interface Entry {
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

function toJson(value: unknown): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify(value));
}
