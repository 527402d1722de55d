/**
 * Reads a folder as Hugging Face repositories have it: config.json, safetensors files with or without an index, and the
 * tokenizer's files. Owns the files' names; their contents are read by hf-models.ts, hf-tensors.ts and hf-tokenizer.ts.
 */
import { EngineError } from '../errors';
import { getTensorNames } from './architectures';
import type { ByteSource } from './byte-source';
import type { Checkpoint } from './checkpoint';
import { type CheckpointFiles, joinSources } from './checkpoint-files';
import type { QuantizedType } from './formats/quantize';
import { GgufMetadata, type MetadataScalar, type MetadataValue } from './gguf-metadata';
import { getHfModel } from './hf-models';
import { buildHfTensors, type HfTensors } from './hf-tensors';
import { type HfTokenizerFiles, readHfTokenizer } from './hf-tokenizer';
import { computeModelId } from './model-identity';
import { Quantizer } from './quantized-tensor';
import { readSafetensorsHeader } from './safetensors';

const INDEX = 'model.safetensors.index.json';
const LONE_FILE = 'model.safetensors';
const MAX_JSON_BYTES = 64_000_000;
const MAX_FILES = 1000;
/** Headers are small: a few at a time hide the latency. */
const PARALLEL_FILES = 4;

/**
 * Reads and checks a folder's directory; weights are read later, range by range.
 * @param quantizeTo what matrices of F32, F16 and BF16 become when they are installed; null: they stay.
 * @throws EngineError `BAD_FILE`, `UNSUPPORTED`, and what the files throw.
 */
export async function readHfCheckpoint(
  files: CheckpointFiles,
  quantizeTo: QuantizedType | null,
  signal?: AbortSignal,
): Promise<Checkpoint> {
  const reader = new JsonReader(files, signal);
  const config = await reader.require('config.json');
  const values = new GgufMetadata(`${files.name}: config.json`, flatten(config.value));
  const model = getHfModel(values);
  const paths = await findWeightFiles(files, reader);
  const sources = await openAll(files, paths, signal);
  const headers = await mapInTurn(sources, (source) => readSafetensorsHeader(source, signal));
  const source = joinSources(files.name, sources);
  const placed = headers.flatMap(({ tensors }, i) =>
    tensors.map((tensor) => ({ ...tensor, offsetBytes: tensor.offsetBytes + (source.startBytes[i] as number) })),
  );
  const names = new Set(placed.map(({ name }) => name));
  if (names.size !== placed.length) fail(files, 'a tensor is in two of its files; a name may appear once');
  checkIndex(files, reader.found.get(INDEX)?.value, paths, headers);

  const tied = values.getBool('tie_word_embeddings', false);
  const quantizer = quantizeTo === null ? null : new Quantizer(quantizeTo);
  const ggufNames = getTensorNames(model.architecture);
  const patterns: HfTensors = {
    names: model.names,
    layouts: model.layouts ?? [],
    vectors: model.getVectors?.(values) ?? {},
    getLayer: (layer, name) => model.getLayer?.(values, layer, name) ?? layer,
    // A tied head may be in the file, and is the embedding.
    isSkipped: (name) => (tied && name === model.names.head) || (model.isSkipped?.(name, values) ?? false),
  };
  const tensors = buildHfTensors(files.name, placed, patterns, ggufNames, quantizer);
  const tokenizerFiles: HfTokenizerFiles = {
    tokenizer: (await reader.require('tokenizer.json')).value,
    config: (await reader.find('tokenizer_config.json'))?.value ?? {},
    generation: (await reader.find('generation_config.json'))?.value ?? {},
    chatTemplate: await readText(files, 'chat_template.jinja', signal),
    modelConfig: values,
  };
  const said = [...reader.found.values()].map(({ bytes }) => bytes);
  const options = new TextEncoder().encode(`${tokenizerFiles.chatTemplate ?? ''}|${quantizeTo ?? ''}`);
  const own = [...headers.map(({ bytes }) => bytes), ...said, options];
  return {
    sourceName: files.name,
    modelId: await computeModelId('safetensors', own, source, placed, signal),
    metadata: new GgufMetadata(files.name, getMetadata(files, model.architecture, model.getKeys(values))),
    traits: model.getTraits?.(values) ?? {},
    tensors,
    source,
    quantization: quantizer,
    readTokenizer: (vocabSize) => readHfTokenizer(files.name, tokenizerFiles, vocabSize),
  };
}

function fail(files: CheckpointFiles, message: string): never {
  throw new EngineError('BAD_FILE', `${files.name}: ${message}`);
}

/** The configuration in GGUF's keys. */
function getMetadata(
  files: CheckpointFiles,
  architecture: string,
  keys: Readonly<Record<string, MetadataValue | undefined>>,
): Map<string, MetadataValue> {
  const metadata = new Map<string, MetadataValue>([
    ['general.architecture', architecture],
    ['general.name', getBaseName(files.name)],
  ]);
  for (const [key, value] of Object.entries(keys)) {
    if (value !== undefined) metadata.set(`${architecture}.${key}`, value);
  }
  return metadata;
}

/** Last part of a path or URL that ends in a slash or not. */
function getBaseName(name: string): string {
  return /([^/\\]+)[/\\]*$/.exec(name)?.[1] ?? name;
}

/** Scalars and arrays of scalars, nested objects with dots; what is null is absent. */
function flatten(value: object, prefix = ''): Map<string, MetadataValue> {
  const flat = new Map<string, MetadataValue>();
  const isScalar = (item: unknown): item is MetadataScalar => ['string', 'number', 'boolean'].includes(typeof item);
  for (const [key, item] of Object.entries(value) as [string, unknown][]) {
    if (isScalar(item)) flat.set(prefix + key, item);
    else if (Array.isArray(item)) {
      if (item.every(isScalar)) flat.set(prefix + key, item);
    } else if (typeof item === 'object' && item !== null) {
      for (const [inner, found] of flatten(item, `${prefix}${key}.`)) flat.set(inner, found);
    }
  }
  return flat;
}

/** One file, or those that the index names, in the order of their names. */
async function findWeightFiles(files: CheckpointFiles, reader: JsonReader): Promise<string[]> {
  const index = await reader.find(INDEX);
  if (!index) return [LONE_FILE];
  const paths = [...new Set(getWeightMap(files, index.value).values())].sort();
  if (paths.length === 0 || paths.length > MAX_FILES) {
    fail(files, `${INDEX} names ${paths.length} files; 1 to ${MAX_FILES} are possible`);
  }
  const odd = paths.find((path) => !/^[\w.-]+\.safetensors$/.test(path));
  if (odd !== undefined)
    fail(files, `${INDEX} names ${JSON.stringify(odd.slice(0, 200))}; names of *.safetensors files are needed`);
  return paths;
}

function getWeightMap(files: CheckpointFiles, index: object): Map<string, string> {
  const map: unknown = Reflect.get(index, 'weight_map');
  const entries = typeof map === 'object' && map !== null ? Object.entries(map) : [];
  if (entries.some(([, path]) => typeof path !== 'string'))
    fail(files, `${INDEX} has a "weight_map" that names no files`);
  return new Map(entries as [string, string][]);
}

/** Every tensor that the index names is in the file that it names. */
function checkIndex(
  files: CheckpointFiles,
  index: object | undefined,
  paths: readonly string[],
  headers: readonly { readonly tensors: readonly { readonly name: string }[] }[],
): void {
  if (!index) return;
  const where = new Map(headers.flatMap(({ tensors }, i) => tensors.map(({ name }) => [name, paths[i]] as const)));
  for (const [name, path] of getWeightMap(files, index)) {
    if (where.get(name) !== path)
      fail(files, `${INDEX} says that tensor "${name}" is in "${path}", which does not have it`);
  }
}

async function openAll(
  files: CheckpointFiles,
  paths: readonly string[],
  signal: AbortSignal | undefined,
): Promise<ByteSource[]> {
  return mapInTurn(paths, async (path) => {
    const source = await files.find(path, signal);
    return source ?? fail(files, `file "${path}" is missing`);
  });
}

/** In order, a few at a time. */
async function mapInTurn<T, U>(items: readonly T[], map: (item: T) => Promise<U>): Promise<U[]> {
  const results: U[] = [];
  for (let at = 0; at < items.length; at += PARALLEL_FILES) {
    results.push(...(await Promise.all(items.slice(at, at + PARALLEL_FILES).map(map))));
  }
  return results;
}

async function readBytes(
  files: CheckpointFiles,
  path: string,
  signal: AbortSignal | undefined,
  isOptional: boolean,
): Promise<Uint8Array | null> {
  const source = await files.find(path, signal, isOptional);
  if (!source) return null;
  if (source.sizeBytes > MAX_JSON_BYTES) {
    fail(files, `"${path}" has ${source.sizeBytes} bytes; the limit is ${MAX_JSON_BYTES}`);
  }
  return source.read(0, source.sizeBytes, signal);
}

/** Null where there is no such file. */
async function readText(files: CheckpointFiles, path: string, signal?: AbortSignal): Promise<string | null> {
  const bytes = await readBytes(files, path, signal, true);
  return bytes && new TextDecoder().decode(bytes);
}

interface JsonFile {
  readonly bytes: Uint8Array;
  readonly value: object;
}

/** Reads JSON files and remembers them: what they say is part of the model's identity. */
class JsonReader {
  readonly found = new Map<string, JsonFile>();

  constructor(
    private readonly files: CheckpointFiles,
    private readonly signal: AbortSignal | undefined,
  ) {}

  async find(path: string, isOptional = true): Promise<JsonFile | undefined> {
    const bytes = await readBytes(this.files, path, this.signal, isOptional);
    if (!bytes) return undefined;
    let value: unknown;
    try {
      value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new EngineError('BAD_FILE', `${this.files.name}: "${path}" is no JSON (${reason})`, { cause: error });
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      fail(this.files, `"${path}" is no JSON object`);
    const file = { bytes, value: value as object };
    this.found.set(path, file);
    return file;
  }

  async require(path: string): Promise<JsonFile> {
    return (
      (await this.find(path, false)) ??
      fail(this.files, `file "${path}" is missing; a folder with safetensors files has one`)
    );
  }
}
