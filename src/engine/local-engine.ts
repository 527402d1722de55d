/**
 * The Engine in process: owns the loaded model and lets one call at a time use it.
 * Never knows whether it runs in a worker, a page or Node: GPU, stores and files are handed in.
 */
import { type CheckpointFiles, createLoneFile } from '../checkpoint/checkpoint-files';
import { DraftController } from '../drafting/draft-controller';
import { EngineError } from '../errors';
import { requireAdapter } from '../gpu/device';
import { resolveLogitOptions } from '../sampling/logit-changes';
import { resolveSampling } from '../sampling/sampling';
import { createBlobSource } from '../store/blob-source';
import { createHttpFiles } from '../store/http-files';
import { installModel } from '../store/install';
import type { ModelStore, StoreKind } from '../store/model-store';
import { openStore } from '../store/open-store';
import { createVerifiedReader } from '../store/verified-reader';
import { renderChat } from '../text/chat-template';
import { createGrammarEngine, type GrammarEngine } from '../text/grammar';
import { createTokenizer, type Tokenizer } from '../text/tokenizer';
import { getToolFamily, listsTools } from '../text/tool-family';
import { Drafter, resolveDraft } from './drafter';
import type {
  Engine,
  ExpertBudget,
  ExpertBudgetChange,
  GenerateRequest,
  LoadedModel,
  LoadOptions,
  LoadProgress,
  ModelSource,
  PagingOptions,
  ScoreRequest,
} from './engine';
import { ForecastShelf, type OpenPathModel } from './forecast-shelf';
import { type GenerationRequest, runGeneration } from './generation';
import { changeExpertBudget } from './live-budget';
import { PassRunner } from './pass-runner';
import { createRuntime, type Runtime, throwIfAborted } from './runtime';
import { scoreTokens } from './score';
import { type ResolvedPaging, Sequence } from './sequence';

/** What the engine takes from its surroundings; each has the browser's own as default. */
export interface EngineEnvironment {
  readonly gpu?: GPU;
  readonly openStore?: (kind: StoreKind) => Promise<ModelStore>;
  /** Added to every read-back from the GPU, in milliseconds: for measurements. */
  readonly readbackDelayMs?: number;
  /** For the learned predictors; without it they are refused. */
  readonly openPathModel?: OpenPathModel;
}

interface Loaded {
  model: LoadedModel;
  readonly runtime: Runtime;
  readonly runner: PassRunner;
  readonly tokenizer: Tokenizer;
  readonly grammars: GrammarEngine;
  readonly forecasts: ForecastShelf;
  /** What guessing brought so far, over all generations. */
  readonly drafts: DraftController;
}

interface PendingBudget {
  readonly budget: ExpertBudget;
  readonly resolve: (change: ExpertBudgetChange) => void;
  readonly reject: (error: unknown) => void;
}

export function createLocalEngine(environment: EngineEnvironment = {}): Engine {
  const stores = new Map<StoreKind, Promise<ModelStore>>();
  let loaded: Loaded | null = null;
  let busyWith: string | null = null;
  const pendingBudgets: PendingBudget[] = [];
  /** A budget change outside of any pass; whoever runs the next pass waits for it. */
  let settling: Promise<void> = Promise.resolve();
  /** A generation waits for its caller to ask for the next event: no pass runs. */
  let isSuspended = false;

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
      settle();
    };
  };

  const getLoaded = (): Loaded => {
    if (!loaded) throw new EngineError('NOT_LOADED', 'no model is loaded: call load first');
    return loaded;
  };

  /** Never rejects: each caller of `setExpertBudget` gets its own answer. */
  const applyPendingBudget = async (): Promise<void> => {
    for (let next = pendingBudgets.shift(); next; next = pendingBudgets.shift()) {
      const { budget, resolve, reject } = next;
      try {
        const holder = getLoaded();
        const change = await changeExpertBudget(holder.runtime, budget);
        const { slotsPerLayer, plannedGpuBytes } = change;
        holder.model = { ...holder.model, slotsPerLayer, plannedGpuBytes };
        resolve(change);
      } catch (error) {
        reject(error);
      }
    }
  };

  /** To be called whenever no pass runs: also what was asked for in the last moment of a call is answered. */
  const settle = (): void => {
    settling = settling.then(applyPendingBudget);
  };

  const unloadNow = async (): Promise<void> => {
    const before = loaded;
    loaded = null;
    before?.runtime.destroy();
    before?.grammars.dispose();
    await before?.forecasts.close();
  };

  const load = async (
    source: ModelSource,
    options: LoadOptions,
    onProgress: (progress: LoadProgress) => void,
    signal: AbortSignal | undefined,
  ): Promise<LoadedModel> => {
    await unloadNow();
    // Asked first: no one should download a model to learn that there is no GPU.
    const deviceOptions = {
      ...(environment.gpu && { gpu: environment.gpu }),
      defaultLimitsOnly: options.defaultLimitsOnly ?? false,
      readbackDelayMs: environment.readbackDelayMs ?? 0,
    };
    await requireAdapter(deviceOptions);
    const store = await getStore(options.store ?? getDefaultStore());
    const { manifest, installed } = await installModel(openFiles(source, onProgress, signal), store, {
      onProgress: (progress) => onProgress({ phase: 'install', ...progress }),
      onWarning: (message) => onProgress({ phase: 'warning', message }),
      // A model whose text cannot be read is refused before it is written.
      onPlan: (plan) => void createTokenizer(plan.tokenizer),
      quantize: options.quantize,
      signal,
    });
    throwIfAborted(signal);
    const tokenizer = createTokenizer(manifest.tokenizer);
    const runtime = await createRuntime(
      manifest,
      createVerifiedReader(store, manifest),
      deviceOptions,
      options,
      onProgress,
      signal,
    );
    const { config } = manifest;
    const { chatTemplate } = manifest.tokenizer;
    const model: LoadedModel = {
      modelId: manifest.modelId,
      name: manifest.name,
      architecture: config.architecture,
      contextLength: runtime.plan.state.contextLength,
      layers: config.layers,
      moeLayers: config.moeLayers.length,
      moeLayerIndices: config.moeLayers,
      experts: config.moe.experts,
      expertsPerToken: config.moe.expertsPerToken,
      slotsPerLayer: runtime.plan.slotsPerLayer,
      plannedGpuBytes: runtime.plan.totalBytes,
      hasChatTemplate: chatTemplate !== null,
      tools: { family: getToolFamily(chatTemplate), inTemplate: listsTools(chatTemplate) },
      adapter: runtime.device.description,
      installed,
      quantization: manifest.quantization ?? null,
    };
    loaded = {
      model,
      runtime,
      runner: new PassRunner(runtime),
      tokenizer,
      grammars: createGrammarEngine(manifest.tokenizer, tokenizer, config.vocabSize),
      forecasts: new ForecastShelf(manifest, store, {
        files: options.forecast,
        modelUrl: source.kind === 'url' ? source.url : undefined,
        openPathModel: environment.openPathModel,
      }),
      drafts: new DraftController(),
    };
    return model;
  };

  return {
    get model() {
      return loaded?.model ?? null;
    },

    async load(source, options = {}, onProgress = () => {}, signal) {
      const release = occupy('load');
      try {
        await settling;
        return await load(source, options, onProgress, signal);
      } finally {
        release();
      }
    },

    async *generate(request, signal) {
      const release = occupy('generate');
      try {
        await settling;
        const { runtime, runner, tokenizer, grammars, forecasts, drafts } = getLoaded();
        const plain = resolveRequest(request, runtime, tokenizer);
        const paging = resolvePaging(request.paging, runtime.manifest.config.layers);
        const drafter = new Drafter(resolveDraft(request.draft, runtime.plan.state), runtime, drafts, plain.sampling);
        const forecast = await forecasts.get(request.paging?.predictor ?? 'ensemble');
        for (const message of forecasts.takeWarnings()) yield { type: 'warning', message };
        const sequence = new Sequence(runtime, runner, forecast, paging);
        const grammar = request.grammar ? await grammars.start(request.grammar) : null;
        const resolved = { ...plain, grammar };
        try {
          for await (const event of runGeneration(runtime, runner, sequence, drafter, tokenizer, resolved, signal)) {
            // Changed here and not later, so that the caller may wait for the change before it asks for the next event.
            isSuspended = true;
            settle();
            yield event;
            isSuspended = false;
            await settling;
          }
        } finally {
          isSuspended = false;
          await settling;
          grammar?.dispose();
          // Where everything is resident, nothing was forecast.
          if (runtime.pager.slots < runtime.manifest.config.moe.experts) await forecasts.save(forecast);
        }
      } finally {
        release();
      }
    },

    async score(request, signal) {
      const release = occupy('score');
      try {
        await settling;
        const { runtime, runner, tokenizer } = getLoaded();
        return await scoreTokens(runtime, runner, resolvePrompt(request, runtime, tokenizer, false), signal);
      } finally {
        release();
      }
    },

    setExpertBudget(budget) {
      return new Promise((resolve, reject) => {
        pendingBudgets.push({ budget, resolve, reject });
        if (busyWith === null || isSuspended) settle();
      });
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
      await settling;
      await unloadNow();
      release();
    },
  };
}

/** Where models are kept unless told otherwise: IndexedDB, or memory where there is none (Node). */
function getDefaultStore(): StoreKind {
  return typeof indexedDB === 'undefined' ? 'memory' : 'indexeddb';
}

function openFiles(
  source: ModelSource,
  onProgress: (progress: LoadProgress) => void,
  signal: AbortSignal | undefined,
): CheckpointFiles {
  if (source.kind === 'file') return createLoneFile(createBlobSource(source.file, source.name));
  return createHttpFiles(source.url, {
    signal,
    onWarning: (message) => onProgress({ phase: 'warning', message }),
    onProgress: (progress) => onProgress({ phase: 'install', ...progress }),
  });
}

function resolveRequest(
  request: GenerateRequest,
  runtime: Runtime,
  tokenizer: Tokenizer,
): Omit<GenerationRequest, 'grammar'> {
  const { maxTokens = 128, stop = [], topLogprobs } = request;
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
  if (request.grammar && request.ignoreEos) {
    throw new EngineError(
      'BAD_ARGUMENT',
      'grammar and ignoreEos were given, and a grammar says where a text ends: give 1',
    );
  }
  const { answerStart = '' } = request;
  if (answerStart !== '' && !request.messages) {
    throw new EngineError('BAD_ARGUMENT', 'answerStart was given without messages: write it into the prompt');
  }
  return {
    promptTokenIds: [
      ...resolvePrompt(request, runtime, tokenizer, true),
      ...tokenizer.encode(answerStart, { parseSpecial: true, addBos: false }),
    ],
    maxTokens,
    sampling: resolveSampling(request.sampling),
    logitOptions: resolveLogitOptions(request.sampling ?? {}, vocabSize),
    stop,
    ignoreEos: request.ignoreEos ?? false,
    showMarks: request.showMarks ?? false,
    topLogprobs: topLogprobs ?? null,
    trace: request.trace ?? false,
    residency: request.residency ?? false,
  };
}

function resolvePaging(options: PagingOptions = {}, layers: number): ResolvedPaging {
  const { segmentLayers = layers, runAhead, readBackEveryLayer = false } = options;
  if (!Number.isInteger(segmentLayers) || segmentLayers < 1) {
    throw new EngineError('BAD_ARGUMENT', `segmentLayers ${segmentLayers} is out of range: an integer of at least 1`);
  }
  return {
    segmentLayers: readBackEveryLayer ? 1 : segmentLayers,
    // When every layer is waited for, nothing lies behind a fault.
    runAhead: readBackEveryLayer || runAhead === false ? 'off' : runAhead ? 'full' : 'auto',
  };
}

/** @param addGenerationPrompt whether rendered messages end with the start of an answer. */
function resolvePrompt(
  { messages, tools, prompt, tokenIds }: ScoreRequest,
  runtime: Runtime,
  tokenizer: Tokenizer,
  addGenerationPrompt: boolean,
): readonly number[] {
  const given = [messages, prompt, tokenIds].filter((input) => input !== undefined).length;
  if (given !== 1) {
    throw new EngineError('BAD_ARGUMENT', `${given} of messages, prompt and tokenIds were given: give exactly 1`);
  }
  const data = runtime.manifest.tokenizer;
  if (messages) return renderChat(data, tokenizer, messages, { addGenerationPrompt, tools });
  if (prompt !== undefined) return tokenizer.encode(prompt, { parseSpecial: false, addBos: data.addBos });
  return tokenIds ?? [];
}
