/**
 * A loaded model: what a call of the engine works with, from its source to its end.
 * Owns the order in which it is made and given up; never who may use it when.
 */
import { throwIfAborted } from '../aborts';
import { DraftController } from '../drafting/draft-controller';
import { HostCache } from '../experts/host-cache';
import { getDefaultStore } from '../store/choose-store';
import { isHubUrl } from '../store/hub-files';
import { createMemoryStore } from '../store/memory-store';
import type { ModelStore, StoreChoice, StoreKind } from '../store/model-store';
import type { OpenModel, OpenModelOptions } from '../store/open-model';
import { askPersistence } from '../store/persistence';
import { createGrammarEngine, type GrammarEngine } from '../text/grammar';
import { createTokenizer, type Tokenizer } from '../text/tokenizer';
import { checkKernels } from './check-kernels';
import { isCopied } from './copy-choice';
import { describeModel } from './describe-model';
import { buildThroughLosses } from './device-loss';
import type { ExpertBudget, LoadedModel, LoadOptions, LoadProgress, ModelSource } from './engine';
import type { EngineEnvironment } from './environment';
import { fetchForStart } from './fetch-for-start';
import { ForecastShelf } from './forecast-shelf';
import { openSource } from './open-source';
import { PassRunner } from './pass-runner';
import { createRuntime, type Runtime } from './runtime';
import { SavedPrefixes } from './saved-prefixes';
import { TuningShelf } from './tuning-shelf';

/** Stores that stay open between loads. */
export interface Stores {
  getStore(kind: StoreKind): Promise<ModelStore>;
  findStore(choice: StoreChoice, onWarning?: (message: string) => void): Promise<ModelStore>;
}

/** A model and what calls work with. */
export interface Loaded {
  /** As the caller sees it; a changed budget or another device changes it. */
  model: LoadedModel;
  readonly opened: OpenModel;
  runtime: Runtime;
  runner: PassRunner;
  /** Beginnings of conversations in host RAM. */
  readonly prefixes: SavedPrefixes;
  /** Makes the runtime anew, on a new device. */
  readonly rebuild: (expertBudget: ExpertBudget, signal?: AbortSignal) => Promise<Runtime>;
  readonly tokenizer: Tokenizer;
  readonly grammars: GrammarEngine;
  readonly forecasts: ForecastShelf;
  readonly tunings: TuningShelf;
  /** What guessing brought so far, over all generations. */
  readonly drafts: DraftController;
}

/**
 * Loads a model: device, install, tokenizer, runtime.
 * @throws EngineError as `Engine.load`; nothing is left open then.
 */
export async function openLoaded(
  source: ModelSource,
  options: LoadOptions,
  surroundings: EngineEnvironment & Stores,
  onProgress: (progress: LoadProgress) => void,
  signal: AbortSignal | undefined,
): Promise<Loaded> {
  const { getStore, findStore, ...environment } = surroundings;
  const prefixes = new SavedPrefixes(options);
  // Asked first: no one should download a model to learn that there is no GPU, or that it lacks what is forced.
  const deviceOptions = {
    ...(environment.gpu && { gpu: environment.gpu }),
    defaultLimitsOnly: options.defaultLimitsOnly ?? false,
    readbackDelayMs: environment.readbackDelayMs ?? 0,
    subgroupMatrix: options.kernels?.subgroupMatrix ?? false,
  };
  await checkKernels(deviceOptions, options.kernels);
  const onWarning = (message: string) => onProgress({ phase: 'warning', message });
  const store = isCopied(source, options) ? await findStore(options.store ?? getDefaultStore(), onWarning) : null;
  if (store && store.kind !== 'memory') void askPersistence();
  const notes = store?.kind === 'opfs' ? store : null;
  const install: OpenModelOptions = {
    onProgress: (progress) => onProgress({ phase: 'install', ...progress }),
    onWarning,
    // A model whose text cannot be read is refused before it is written.
    onPlan: (plan) => void createTokenizer(plan.tokenizer),
    quantize: options.quantize,
    signal,
    storeBudgetBytes: options.storeBudgetBytes,
  };
  const opened = await openSource(source, store, environment.fetch, install, onProgress);
  try {
    const goesOn = await fetchForStart(opened, options.startEarly, onWarning, signal);
    throwIfAborted(signal);
    const { manifest } = opened.records;
    const tokenizer = createTokenizer(manifest.tokenizer);
    const tunings = new TuningShelf(() => getStore(getDefaultStore()));
    const host = new HostCache(opened.records, options.hostCacheBytes);
    const build = (request: LoadOptions, report: typeof onProgress, buildSignal?: AbortSignal) =>
      buildThroughLosses(
        () =>
          createRuntime(
            manifest,
            opened.records,
            deviceOptions,
            { ...request, notes, tunings, host },
            report,
            buildSignal,
          ),
        buildSignal,
      );
    const runtime = await build(options, onProgress, signal);
    const forecasts = new ForecastShelf(manifest, store ?? createMemoryStore(), {
      files: options.forecast,
      modelUrl: source.kind === 'url' && !isHubUrl(source.url) ? source.url : undefined,
      openPathModel: environment.openPathModel,
    });
    const loaded: Loaded = {
      model: describeModel(opened, runtime),
      opened,
      runtime,
      rebuild: (expertBudget, rebuildSignal) => build({ ...options, expertBudget }, () => {}, rebuildSignal),
      runner: new PassRunner(runtime, prefixes),
      prefixes,
      tokenizer,
      grammars: createGrammarEngine(manifest.tokenizer, tokenizer, manifest.config.vocabSize),
      forecasts,
      tunings,
      drafts: new DraftController(),
    };
    if (goesOn) opened.finishBehind();
    return loaded;
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** Frees what a model holds; other tabs may have it then. */
export async function closeLoaded({ runtime, grammars, forecasts, opened }: Loaded): Promise<void> {
  runtime.destroy();
  grammars.dispose();
  try {
    await forecasts.close();
  } finally {
    // Other tabs wait for its lock.
    await opened.close();
  }
}
