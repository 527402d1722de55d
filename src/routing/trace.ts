/**
 * The routing trace: JSON Lines with a header, then one line per input token. Owns the format, its limits and its errors.
 * Pure: reads from chunks and writes strings; never opens a file.
 */
import { EngineError } from '../errors';
import { readLines } from './text-lines';

/** First line. Further fields are allowed and ignored. */
export interface TraceHeader {
  readonly model: string;
  /** MoE layers only. */
  readonly layers: number;
  /** Shape [layers], which layers of the model they are, ascending; a model whose first layer is dense begins with 1. */
  readonly layerIndices: readonly number[];
  readonly experts: number;
  /** The maximum over tokens and layers. */
  readonly expertsPerToken: number;
}

/** One input token that was fed, prompt included. */
export interface TraceToken {
  /** Conversation, numbered from 0; never falls. */
  readonly sequence: number;
  readonly token: number;
  readonly phase: 'prefill' | 'decode';
  /** [layers][up to expertsPerToken]: ids in router order, without null or shared experts. */
  readonly routes: readonly (readonly number[])[];
}

export const traceLimits = { layers: 1024, experts: 4096, lineChars: 4 << 20, tokenId: 0xffff_ffff } as const;

/** @throws EngineError `BAD_FILE` naming line and field. */
export async function* readTrace(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  name: string,
): AsyncGenerator<TraceHeader | TraceToken> {
  let header: TraceHeader | undefined;
  let sequence = 0;
  let tokens = 0;
  for await (const { text, line } of readLines(chunks, name, traceLimits.lineChars)) {
    const fail = createFail(name, line);
    const value = parseObject(text, fail);
    if (!header) {
      header = checkHeader(value, fail);
      yield header;
      continue;
    }
    const token = checkToken(value, header, sequence, fail);
    sequence = token.sequence;
    tokens++;
    yield token;
  }
  if (tokens > 0) return;
  const missing = header ? 'it has a header and no tokens' : 'it is empty';
  throw new EngineError('BAD_FILE', `${name}: ${missing}; a trace is a header line and one line per token`);
}

export function formatTraceHeader(header: TraceHeader): string {
  const { model, layers, layerIndices, experts, expertsPerToken } = header;
  return `${JSON.stringify({ model, layers, layerIndices, experts, expertsPerToken })}\n`;
}

export function formatTraceToken({ sequence, token, phase, routes }: TraceToken): string {
  return `${JSON.stringify({ sequence, token, phase, routes })}\n`;
}

type Fail = (field: string, problem: string) => EngineError;

function createFail(name: string, line: number): Fail {
  return (field, problem) => new EngineError('BAD_FILE', `${name}, line ${line}: ${field} ${problem}`);
}

type Fields = Readonly<Record<string, unknown>>;

function parseObject(text: string, fail: Fail): Fields {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw fail('the line', `is not JSON (${(error as Error).message}); is the file cut short?`);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw fail('the line', 'is not a JSON object; every line of a trace is one');
}

function checkHeader(value: Fields, fail: Fail): TraceHeader {
  const { model, layerIndices } = value;
  if (typeof model !== 'string') throw fail('model', `is ${show(model)}; it must be text`);
  const layers = checkInteger('layers', value.layers, 1, traceLimits.layers, fail);
  const experts = checkInteger('experts', value.experts, 1, traceLimits.experts, fail);
  const expertsPerToken = checkInteger('expertsPerToken', value.expertsPerToken, 1, experts, fail);
  if (!Array.isArray(layerIndices) || layerIndices.length !== layers) {
    throw fail('layerIndices', `is ${show(layerIndices)}; it must be a list of ${layers} numbers, one per MoE layer`);
  }
  let lowest = 0;
  for (const [at, index] of layerIndices.entries()) {
    lowest = checkInteger(`layerIndices[${at}]`, index, lowest, Number.MAX_SAFE_INTEGER, fail) + 1;
  }
  return { model, layers, layerIndices, experts, expertsPerToken };
}

function checkToken(value: Fields, header: TraceHeader, lowestSequence: number, fail: Fail): TraceToken {
  const sequence = checkInteger('sequence', value.sequence, lowestSequence, 0xffff_ffff, fail);
  const token = checkInteger('token', value.token, 0, traceLimits.tokenId, fail);
  const { phase, routes } = value;
  if (phase !== 'prefill' && phase !== 'decode') throw fail('phase', `is ${show(phase)}; allowed: prefill, decode`);
  if (!Array.isArray(routes) || routes.length !== header.layers) {
    const found = Array.isArray(routes) ? `has ${routes.length} layers` : `is ${show(routes)}`;
    throw fail('routes', `${found}; the header says ${header.layers} layers`);
  }
  for (let layer = 0; layer < routes.length; layer++) checkLayer(routes[layer], layer, header, fail);
  return { sequence, token, phase, routes };
}

function checkLayer(ids: unknown, layer: number, header: TraceHeader, fail: Fail): void {
  const { experts, expertsPerToken } = header;
  if (!Array.isArray(ids)) throw fail(`routes[${layer}]`, `is ${show(ids)}; it must be a list of expert ids`);
  if (ids.length > expertsPerToken) {
    throw fail(`routes[${layer}]`, `has ${ids.length} experts; the header says at most ${expertsPerToken}`);
  }
  for (let at = 0; at < ids.length; at++) {
    const id = ids[at];
    if (!Number.isInteger(id) || id < 0 || id >= experts) {
      throw fail(`routes[${layer}][${at}]`, `is ${show(id)}; it must be a whole number from 0 to ${experts - 1}`);
    }
    if (ids.indexOf(id) < at) throw fail(`routes[${layer}]`, `names expert ${id} twice; each is used once`);
  }
}

function checkInteger(field: string, value: unknown, min: number, max: number, fail: Fail): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw fail(field, `is ${show(value)}; it must be a whole number from ${min} to ${max}`);
}

/** A value of the file for a message: short whatever it is. */
function show(value: unknown): string {
  if (value === undefined) return 'missing';
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
