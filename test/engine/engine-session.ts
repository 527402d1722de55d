/** An engine with a model loaded from a file, and what a generation streamed. Owns set-up only; tests say what must hold. */
import { onTestFinished } from 'vitest';
import type {
  Engine,
  GenerateEvent,
  GenerateRequest,
  GenerateResult,
  LoadedModel,
  LoadOptions,
  TokenLogprob,
} from '../../src/engine/engine';
import type { EngineEnvironment } from '../../src/engine/environment';
import { createLocalEngine } from '../../src/engine/local-engine';
import { readGoldenModel } from '../golden';
import { openAnyStore } from '../opfs/remote-store';
import { sharedGpu } from './shared-gpu';

export type TokenEvent = Extract<GenerateEvent, { type: 'token' }>;

export interface Generation {
  readonly tokens: TokenEvent[];
  readonly prefill: Extract<GenerateEvent, { type: 'prefill' }>[];
  readonly result: GenerateResult;
}

export type TestModel = string | Uint8Array<ArrayBuffer> | Map<string, Uint8Array<ArrayBuffer>>;

export interface Session {
  readonly engine: Engine;
  readonly loaded: LoadedModel;
}

export async function openSession(
  model: TestModel,
  options: LoadOptions = {},
  environment: EngineEnvironment = {},
): Promise<Session> {
  const engine = createLocalEngine({ gpu: sharedGpu, openStore: openAnyStore, ...environment });
  return { engine, loaded: await loadModel(engine, model, options) };
}

/** `openSession` for the test that runs: the engine is unloaded when it ends. */
export async function openForTest(...args: Parameters<typeof openSession>): Promise<Session> {
  const session = await openSession(...args);
  onTestFinished(() => session.engine.unload());
  return session;
}

/** @param model name of a golden model, the bytes of a GGUF, or a folder's files by path. */
export async function loadModel(engine: Engine, model: TestModel, options: LoadOptions = {}): Promise<LoadedModel> {
  if (model instanceof Map) {
    const folder = Array.from(model, ([path, bytes]) => new File([bytes], path));
    return engine.load({ kind: 'folder', folder, name: 'test' }, { store: 'memory', ...options });
  }
  const bytes = typeof model === 'string' ? await readGoldenModel(model) : model;
  const name = typeof model === 'string' ? `${model}.gguf` : 'test.gguf';
  return engine.load({ kind: 'file', file: new Blob([bytes]), name }, { store: 'memory', ...options });
}

/** Runs a generation to its end. */
export async function generate(engine: Engine, request: GenerateRequest, signal?: AbortSignal): Promise<Generation> {
  const tokens: TokenEvent[] = [];
  const prefill: Generation['prefill'] = [];
  for await (const event of engine.generate(request, signal)) {
    if (event.type === 'token') tokens.push(event);
    else if (event.type === 'prefill') prefill.push(event);
    else if (event.type === 'done') return { tokens, prefill, result: event.result };
  }
  throw new Error('the stream ended without a done event');
}

/** The bits of every number, so that equal means bit-identical. */
export function toBits(logprobs: readonly TokenLogprob[]): string[] {
  return logprobs.map(({ tokenId, logprob, top }) =>
    [[tokenId, logprob] as const, ...top].map(([id, value]) => `${id}:${getHex(value)}`).join(' '),
  );
}

function getHex(value: number): string {
  return new BigUint64Array(Float64Array.of(value).buffer)[0]?.toString(16) ?? '';
}

/** Rejections with their time, for tests that something fails, and fast. */
export async function catchError(promise: Promise<unknown>): Promise<{ error: unknown; ms: number }> {
  const start = performance.now();
  try {
    await promise;
  } catch (error) {
    return { error, ms: performance.now() - start };
  }
  throw new Error('nothing was thrown');
}
