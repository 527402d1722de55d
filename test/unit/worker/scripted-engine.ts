/** An engine whose every answer is written by the test: what stands on the worker's side in tests of the boundary. */
import type {
  Engine,
  ExpertBudget,
  ExpertBudgetChange,
  GenerateEvent,
  GenerateRequest,
  GenerateResult,
  LoadedModel,
  LoadOptions,
  LoadProgress,
  MemoryEvent,
  ModelSource,
  ScoreRequest,
  ScoreResult,
} from '../../../src/engine/engine';
import { EngineError } from '../../../src/errors';

export const scriptedModel: LoadedModel = {
  modelId: 'scripted',
  name: 'Scripted model',
  architecture: 'olmoe',
  contextLength: 64,
  layers: 2,
  moeLayers: 2,
  moeLayerIndices: [0, 1],
  experts: 8,
  expertsPerToken: 2,
  slotsPerLayer: 4,
  plannedGpuBytes: 1024,
  hasChatTemplate: true,
  tools: { family: 'hermes', inTemplate: true },
  adapter: 'none',
  variants: { kernels: 'none' },
  installed: true,
  quantization: null,
  isLocal: true,
};

export const scriptedResult: GenerateResult = {
  promptTokenIds: [1, 2],
  tokenIds: [3, 4, 5],
  text: 'one two three',
  logprobs: [],
  finishReason: 'stop',
  stats: {
    promptTokens: 2,
    reusedTokens: 0,
    generatedTokens: 3,
    prefillMs: 1,
    decodeMs: 3,
    slotsPerLayer: 4,
    hitRate: 0.5,
    faultingLayers: 3,
    roundTrips: 6,
    submits: 6,
    layersExecuted: 9,
    hostCache: { hits: 0, reads: 0, readBytes: 0 },
    prefixCache: { count: 0, usedBytes: 0, savedBytes: 0, restoredBytes: 0 },
    tiers: {
      gpu: { pages: 3, bytes: null, usedBytes: 512, budgetBytes: 512 },
      ram: { pages: 0, bytes: null, usedBytes: 0, budgetBytes: 0 },
      store: { pages: 3, bytes: 512, usedBytes: 1024, budgetBytes: null },
      source: { pages: 0, bytes: 0, usedBytes: null, budgetBytes: null },
      staged: { pages: 0, bytes: 0, usedBytes: 0, budgetBytes: 0 },
      repairs: 0,
    },
    byLayer: [],
    uploadBytes: { demand: 512, useful: 0, wasted: 0 },
    draft: { proposed: 0, accepted: 0, passes: 0, sources: { off: 0, self: 0, lookup: 0, table: 0, grammar: 0 } },
    learned: { asked: 0, inTime: 0, late: 0 },
    plannedGpuBytes: 1024,
    peakGpuBytes: 1000,
    adapter: 'none',
    variants: { kernels: 'none' },
  },
};

export function tokenEvent(tokenId: number, text: string): GenerateEvent {
  return { type: 'token', tokenId, text, residentShare: 0.5, hitRate: 0.5 };
}

/** Resolves after `ms`, or rejects with ABORTED when the signal says so. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(new EngineError('ABORTED', 'scripted abort'));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', abort, { once: true });
  });
}

/** What a test may replace; what it does not, throws. */
export type EngineScript = Partial<Engine>;

export class ScriptedEngine implements Engine {
  readonly #script: EngineScript;
  model: LoadedModel | null = null;

  constructor(script: EngineScript) {
    this.#script = script;
  }

  async load(
    source: ModelSource,
    options?: LoadOptions,
    onProgress?: (progress: LoadProgress) => void,
    signal?: AbortSignal,
  ): Promise<LoadedModel> {
    this.model = await this.#get('load')(source, options, onProgress, signal);
    return this.model;
  }

  generate(request: GenerateRequest, signal?: AbortSignal): AsyncIterable<GenerateEvent> {
    return this.#get('generate')(request, signal);
  }

  async score(request: ScoreRequest, signal?: AbortSignal): Promise<ScoreResult> {
    return this.#get('score')(request, signal);
  }

  async setExpertBudget(budget: ExpertBudget): Promise<ExpertBudgetChange> {
    return this.#get('setExpertBudget')(budget);
  }

  /** The only call without a script that does nothing: every connection watches. */
  watchMemory(listener: (event: MemoryEvent) => void): () => void {
    return this.#script.watchMemory?.(listener) ?? (() => {});
  }

  async listModels(store: 'indexeddb' | 'memory') {
    return this.#get('listModels')(store);
  }

  async removeModel(store: 'indexeddb' | 'memory', modelId: string): Promise<void> {
    return this.#get('removeModel')(store, modelId);
  }

  async unload(): Promise<void> {
    return this.#get('unload')();
  }

  #get<K extends keyof Engine>(name: K): Engine[K] {
    const part = this.#script[name];
    if (!part) throw new EngineError('INTERNAL', `the script has no ${name}`);
    return part;
  }
}

/** Yields tokens "0 ", "1 ", … every `ms` until aborted; counts what it gave and notices when it was stopped. */
export class EndlessStream {
  given = 0;
  stopped = false;

  async *generate(ms: number, signal?: AbortSignal): AsyncGenerator<GenerateEvent> {
    try {
      for (;;) {
        await sleep(ms, signal);
        yield tokenEvent(this.given, `${this.given++} `);
      }
    } finally {
      this.stopped = true;
    }
  }
}
