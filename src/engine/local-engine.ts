/**
 * The Engine in process: owns the loaded model and lets one call at a time use it.
 * Never knows whether it runs in a worker, a page or Node: GPU, stores and files are handed in.
 */
import type { ByteSource } from '../checkpoint/byte-source';
import { EngineError } from '../errors';
import { resolveSampling } from '../sampling/sampling';
import { createBlobSource } from '../store/blob-source';
import { openHttpSource } from '../store/http-source';
import { installModel } from '../store/install';
import type { ModelStore, StoreKind } from '../store/model-store';
import { openStore } from '../store/open-store';
import { createVerifiedReader } from '../store/verified-reader';
import { renderChat } from '../text/chat-template';
import { createTokenizer, type Tokenizer } from '../text/tokenizer';
import type { Engine, GenerateRequest, LoadedModel, LoadOptions, LoadProgress, ModelSource } from './engine';
import { type GenerationRequest, runGeneration } from './generation';
import { PassRunner } from './pass-runner';
import { createRuntime, type Runtime, throwIfAborted } from './runtime';

/** What the engine takes from its surroundings; each has the browser's own as default. */
export interface EngineEnvironment {
  readonly gpu?: GPU;
  readonly openStore?: (kind: StoreKind) => Promise<ModelStore>;
}

interface Loaded {
  readonly runtime: Runtime;
  readonly runner: PassRunner;
  readonly tokenizer: Tokenizer;
}

export function createLocalEngine(environment: EngineEnvironment = {}): Engine {
  const stores = new Map<StoreKind, Promise<ModelStore>>();
  let loaded: Loaded | null = null;
  let busyWith: string | null = null;

  /** Stores stay open between calls: the memory store lives as long as the engine. */
  const getStore = (kind: StoreKind): Promise<ModelStore> => {
    let store = stores.get(kind);
    if (!store) {
      store = (environment.openStore ?? openStore)(kind);
      stores.set(kind, store);
      store.catch(() => stores.delete(kind));
    }
    return store;
  };

  const occupy = (call: string): (() => void) => {
    if (busyWith !== null) {
      throw new EngineError(
        'BUSY',
        `${call} was called while ${busyWith} is running, 1 call at a time is served: wait for it or abort it`,
      );
    }
    busyWith = call;
    return () => {
      busyWith = null;
    };
  };

  const unloadNow = (): void => {
    loaded?.runtime.destroy();
    loaded = null;
  };

  const load = async (
    source: ModelSource,
    options: LoadOptions,
    onProgress: (progress: LoadProgress) => void,
    signal: AbortSignal | undefined,
  ): Promise<LoadedModel> => {
    unloadNow();
    const store = await getStore(options.store ?? getDefaultStore());
    const { manifest, installed } = await installModel(await openSource(source, onProgress, signal), store, {
      onProgress: (progress) => onProgress({ phase: 'install', ...progress }),
      onWarning: (message) => onProgress({ phase: 'warning', message }),
      signal,
    });
    throwIfAborted(signal);
    const tokenizer = createTokenizer(manifest.tokenizer);
    const runtime = await createRuntime(
      manifest,
      createVerifiedReader(store, manifest),
      { ...(environment.gpu && { gpu: environment.gpu }), defaultLimitsOnly: options.defaultLimitsOnly ?? false },
      options,
      onProgress,
      signal,
    );
    loaded = { runtime, runner: new PassRunner(runtime), tokenizer };
    const { config } = manifest;
    return {
      modelId: manifest.modelId,
      name: manifest.name,
      architecture: config.architecture,
      contextLength: runtime.plan.state.contextLength,
      layers: config.layers,
      moeLayers: config.moeLayers.length,
      experts: config.moe.experts,
      expertsPerToken: config.moe.expertsPerToken,
      slotsPerLayer: runtime.plan.slotsPerLayer,
      plannedGpuBytes: runtime.plan.totalBytes,
      hasChatTemplate: manifest.tokenizer.chatTemplate !== null,
      adapter: runtime.device.description,
      installed,
    };
  };

  return {
    async load(source, options = {}, onProgress = () => {}, signal) {
      const release = occupy('load');
      try {
        return await load(source, options, onProgress, signal);
      } finally {
        release();
      }
    },

    async *generate(request, signal) {
      const release = occupy('generate');
      try {
        if (!loaded) throw new EngineError('NOT_LOADED', 'no model is loaded: call load first');
        const { runtime, runner, tokenizer } = loaded;
        yield* runGeneration(runtime, runner, tokenizer, resolveRequest(request, runtime, tokenizer), signal);
      } finally {
        release();
      }
    },

    async listModels(kind) {
      const manifests = await (await getStore(kind)).readModels();
      return manifests.map(({ modelId, name, sourceBytes }) => ({ modelId, name, sourceBytes }));
    },

    async removeModel(kind, modelId) {
      if (loaded?.runtime.manifest.modelId === modelId) {
        throw new EngineError('BUSY', `model ${modelId} is loaded: unload it before removing it`);
      }
      await (await getStore(kind)).removeModel(modelId);
    },

    async unload() {
      const release = occupy('unload');
      unloadNow();
      release();
    },
  };
}

/** Where models are kept unless told otherwise: IndexedDB, or memory where there is none (Node). */
function getDefaultStore(): StoreKind {
  return typeof indexedDB === 'undefined' ? 'memory' : 'indexeddb';
}

async function openSource(
  source: ModelSource,
  onProgress: (progress: LoadProgress) => void,
  signal: AbortSignal | undefined,
): Promise<ByteSource> {
  if (source.kind === 'file') return createBlobSource(source.file, source.name);
  return openHttpSource(source.url, {
    signal,
    onWarning: (message) => onProgress({ phase: 'warning', message }),
    onProgress: (progress) => onProgress({ phase: 'install', ...progress }),
  });
}

function resolveRequest(request: GenerateRequest, runtime: Runtime, tokenizer: Tokenizer): GenerationRequest {
  const { messages, prompt, tokenIds, maxTokens = 128, stop = [], topLogprobs } = request;
  const given = [messages, prompt, tokenIds].filter((input) => input !== undefined).length;
  if (given !== 1) {
    throw new EngineError('BAD_ARGUMENT', `${given} of messages, prompt and tokenIds were given: give exactly 1`);
  }
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    throw new EngineError('BAD_ARGUMENT', `maxTokens ${maxTokens} is out of range: an integer of at least 1`);
  }
  const { vocabSize } = runtime.manifest.config;
  if (topLogprobs !== undefined && (!Number.isInteger(topLogprobs) || topLogprobs < 0 || topLogprobs > vocabSize)) {
    throw new EngineError(
      'BAD_ARGUMENT',
      `topLogprobs ${topLogprobs} is out of range: an integer from 0 to ${vocabSize}`,
    );
  }
  const data = runtime.manifest.tokenizer;
  const promptTokenIds = messages
    ? renderChat(data, tokenizer, messages, { addGenerationPrompt: true })
    : prompt !== undefined
      ? tokenizer.encode(prompt, { parseSpecial: false, addBos: data.addBos })
      : (tokenIds ?? []);
  return {
    promptTokenIds,
    maxTokens,
    sampling: resolveSampling(request.sampling),
    stop,
    ignoreEos: request.ignoreEos ?? false,
    topLogprobs: topLogprobs ?? null,
  };
}
