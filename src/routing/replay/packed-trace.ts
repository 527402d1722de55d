/**
 * A routing trace in memory: a few flat arrays whatever its length. Owns the packing; trace.ts has the format. Opens no file.
 */
import type { TokenContext } from '../predictor';
import { TokenRoutes } from '../token-routes';
import { readTrace, type TraceHeader, type TraceToken } from '../trace';

/** A routing trace as flat arrays. */
export interface PackedTrace {
  /** Name of the file. */
  readonly name: string;
  readonly header: TraceHeader;
  readonly tokens: number;
  /** [tokens] */
  readonly tokenIds: Uint32Array;
  /** Shape [tokens], the conversation of each token. */
  readonly sequences: Uint32Array;
  /** Shape [tokens], how many tokens of its conversation come before each. */
  readonly positions: Uint32Array;
  /** Expert ids of all layers of all tokens. */
  readonly ids: Uint16Array;
  /** Shape [tokens * layers + 1], where the ids of a token's layer begin. */
  readonly starts: Uint32Array;
}

export function getRoutes(trace: PackedTrace, token: number): TokenRoutes {
  return new TokenRoutes(trace.ids, trace.starts, token * trace.header.layers);
}

/** Traces by model, in the order given: the same name, layers, experts and experts per token. */
export function groupByModel(traces: readonly PackedTrace[]): PackedTrace[][] {
  const models = new Map<string, PackedTrace[]>();
  for (const trace of traces) {
    const key = getModelKey(trace);
    models.set(key, [...(models.get(key) ?? []), trace]);
  }
  return [...models.values()];
}

/** Traces with the same key are of one model. */
export function getModelKey({ header }: PackedTrace): string {
  const { model, layerIndices, experts, expertsPerToken } = header;
  return JSON.stringify([model, layerIndices, experts, expertsPerToken]);
}

/** What predictors know of a token before it runs. */
export function getContext({ tokenIds, positions }: PackedTrace, token: number): TokenContext {
  const position = positions[token] as number;
  const previousId = position === 0 ? null : (tokenIds[token - 1] as number);
  return { tokenId: tokenIds[token] as number, position, previousId };
}

/** Packs tokens that are there already. */
export function packTrace(name: string, header: TraceHeader, tokens: Iterable<TraceToken>): PackedTrace {
  const packer = new TracePacker(name, header);
  for (const token of tokens) packer.add(token);
  return packer.finish();
}

/**
 * @param chunks of JSON Lines, as `generate --trace` writes them; a `ReadableStream` of bytes will do
 * @param name of the trace, for messages and rows
 * @throws EngineError `BAD_FILE` when it is no trace.
 */
export async function readPackedTrace(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  name: string,
): Promise<PackedTrace> {
  let packer: TracePacker | undefined;
  for await (const item of readTrace(chunks, name)) {
    if ('layers' in item) packer = new TracePacker(name, item);
    else packer?.add(item);
  }
  // A trace without a header is refused by its reader.
  return (packer as TracePacker).finish();
}

class TracePacker {
  readonly #tokenIds: number[] = [];
  readonly #sequences: number[] = [];
  readonly #positions: number[] = [];
  #ids = new Uint16Array(1 << 16);
  #used = 0;
  #starts = new Uint32Array(1 << 12);
  #layers = 0;

  constructor(
    private readonly name: string,
    private readonly header: TraceHeader,
  ) {}

  add({ token, sequence, routes }: TraceToken): void {
    this.#tokenIds.push(token);
    const isSame = this.#sequences.at(-1) === sequence;
    this.#positions.push(isSame ? (this.#positions.at(-1) as number) + 1 : 0);
    this.#sequences.push(sequence);
    const { layers, expertsPerToken } = this.header;
    if (this.#used + layers * expertsPerToken > this.#ids.length) this.#ids = grow(this.#ids, layers * expertsPerToken);
    if (this.#layers + layers >= this.#starts.length) this.#starts = grow(this.#starts, layers + 1);
    for (const experts of routes) {
      for (const expert of experts) this.#ids[this.#used++] = expert;
      this.#starts[++this.#layers] = this.#used;
    }
  }

  finish(): PackedTrace {
    return {
      name: this.name,
      header: this.header,
      tokens: this.#tokenIds.length,
      tokenIds: Uint32Array.from(this.#tokenIds),
      sequences: Uint32Array.from(this.#sequences),
      positions: Uint32Array.from(this.#positions),
      ids: this.#ids.slice(0, this.#used),
      starts: this.#starts.slice(0, this.#layers + 1),
    };
  }
}

function grow<T extends Uint16Array | Uint32Array>(array: T, more: number): T {
  const grown = new (array.constructor as new (length: number) => T)(array.length * 2 + more);
  grown.set(array);
  return grown;
}
