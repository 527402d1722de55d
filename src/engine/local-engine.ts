/**
 * The Engine in process: owns the loaded model and lets one call at a time use it.
 * Never knows whether it runs in a worker, a page or Node: GPU, stores and files are handed in.
 */
import { orAborted, throwIfAborted, whenAborted } from '../aborts';
import { EngineError } from '../errors';
import { createStoreChooser } from '../store/choose-store';
import { listModels } from '../store/list-models';
import type { ModelStore, StoreChoice, StoreKind } from '../store/model-store';
import { removeModel } from '../store/open-model';
import { openStore } from '../store/open-store';
import { Attempts } from './attempts';
import { describeRuntime } from './describe-model';
import { retryThroughLosses, streamThroughLosses } from './device-loss';
import { DeviceReplacement } from './device-replacement';
import { Drafter, resolveDraft } from './drafter';
import type { Engine, ExpertBudget, ExpertBudgetChange, GenerateEvent, GenerateRequest } from './engine';
import type { EngineEnvironment } from './environment';
import { getStats, runGeneration } from './generation';
import { IdleWork } from './idle-work';
import { changeExpertBudget } from './live-budget';
import { closeLoaded, type Loaded, openLoaded } from './loaded-model';
import { MemoryWatch } from './memory-watch';
import { resolvePaging, resolvePrompt, resolveRequest } from './request';
import { tryWhileIdle } from './runtime-tuning';
import { scoreTokens } from './score';
import { Sequence } from './sequence';

interface PendingBudget {
  readonly budget: ExpertBudget;
  readonly resolve: (change: ExpertBudgetChange) => void;
  readonly reject: (error: unknown) => void;
}

/** An engine in this thread, whatever that is: for a worker of your own, or Node over Dawn's bindings. */
export function createLocalEngine(environment: EngineEnvironment = {}): Engine {
  const stores = new Map<StoreKind, Promise<ModelStore>>();
  let loaded: Loaded | null = null;
  let busyWith: string | null = null;
  // Prompts that are long enough for tiles will come: their kernels are compiled while no one waits. What fails now fails again,
  // and is told, when they are needed.
  const idle = new IdleWork(async (signal) => {
    const { runtime } = getLoaded();
    await Promise.race([runtime.tiles.load(), whenAborted(signal)]);
    if (!signal.aborted) await tryWhileIdle(runtime, signal);
  });
  const memoryWatch = new MemoryWatch();
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

  const chooseStore = createStoreChooser(getStore);
  const findStore = async (choice: StoreChoice, onWarning?: (message: string) => void): Promise<ModelStore> =>
    getStore(choice === 'auto' ? await chooseStore(onWarning) : choice);

  const occupy = (call: string): (() => void) => {
    if (busyWith !== null) {
      throw new EngineError(
        'BUSY',
        `${call} was called while ${busyWith} is running, 1 call at a time is served: wait for it or abort it`,
      );
    }
    stopIdle();
    busyWith = call;
    return () => {
      busyWith = null;
      settle();
      startIdle();
    };
  };

  /** Behind what settles now; what settles later has its own, and a call that is under way begins it at its end. */
  const startIdle = (): void => {
    const settled = settling;
    void settled.then(() => {
      if (settling === settled && busyWith === null && loaded) idle.start();
    });
  };

  /** Whoever runs the next pass waits for what runs now. */
  const stopIdle = (): void => {
    const stopped = idle.stop();
    settling = settling.then(() => stopped);
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
        const change = await changeExpertBudget(new DeviceReplacement(holder, memoryWatch), budget);
        holder.model = { ...holder.model, ...describeRuntime(holder.runtime) };
        memoryWatch.tell('budget', holder.runtime, change.warning);
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
    memoryWatch.tellUnload();
    if (before) await closeLoaded(before);
  };

  /** The events of one generation. No pass runs while one of them is with the caller. */
  async function* answer(holder: Loaded, request: GenerateRequest, signal: AbortSignal | undefined) {
    const { tokenizer, grammars, forecasts, tunings, drafts } = holder;
    const { records } = holder.opened;
    const { manifest } = holder.runtime;
    const plain = resolveRequest(request, manifest, tokenizer);
    const paging = resolvePaging(request.paging);
    const draft = resolveDraft(request.draft, holder.runtime.plan.state);
    const forecast = await forecasts.get(request.paging?.predictor ?? 'ensemble', signal);
    const toWarning = (message: string): GenerateEvent => ({ type: 'warning', message });
    yield* [forecasts, records, tunings].flatMap((shelf) => shelf.takeWarnings()).map(toWarning);
    const losses = new DeviceReplacement(holder, memoryWatch);
    const attempts = new Attempts();
    const start = async function* () {
      throwIfAborted(signal);
      const { runtime, runner } = losses.use();
      const grammar = request.grammar ? await grammars.start(request.grammar) : null;
      try {
        const sequence = new Sequence(runtime, runner, forecast, paging);
        const drafter = new Drafter(draft, runtime, drafts, plain.sampling);
        const events = runGeneration(runtime, runner, sequence, drafter, tokenizer, { ...plain, grammar }, signal);
        yield* attempts.follow(events, (measured) =>
          getStats(runtime, runner, sequence, drafter, {
            promptTokens: plain.promptTokenIds.length,
            reusedTokens: 0,
            ...measured,
          }),
        );
      } finally {
        grammar?.dispose();
      }
    };
    // Until the first token the line belongs to the pages that it needs.
    const resumeDownload = records.hold();
    try {
      for await (const event of streamThroughLosses(losses, start, signal)) {
        yield event;
        if (event.type !== 'token') continue;
        resumeDownload();
        yield* records.takeWarnings().map(toWarning);
        if (!records.isLocal) yield { type: 'install', ...records.getProgress() } as const;
      }
    } finally {
      resumeDownload();
      // Where everything is resident, nothing was forecast.
      if (holder.runtime.pager.slots < manifest.config.moe.experts) await forecasts.save(forecast);
    }
  }

  return {
    get model() {
      return loaded?.model ?? null;
    },

    async load(source, options = {}, onProgress = () => {}, signal) {
      const release = occupy('load');
      try {
        await orAborted(settling, signal);
        await unloadNow();
        loaded = await openLoaded(source, options, { ...environment, getStore, findStore }, onProgress, signal);
        memoryWatch.tell('load', loaded.runtime);
        return loaded.model;
      } finally {
        release();
      }
    },

    async *generate(request, signal) {
      const release = occupy('generate');
      try {
        await orAborted(settling, signal);
        for await (const event of answer(getLoaded(), request, signal)) {
          // Changed here and not later, so that the caller may wait for the change before it asks for the next event.
          isSuspended = true;
          settle();
          try {
            yield event;
          } finally {
            isSuspended = false;
            // What goes on hears of an abort before its next pass; what ends here ends as its caller wants it.
            await orAborted(settling, signal).catch(() => {});
          }
        }
      } finally {
        release();
      }
    },

    async score(request, signal) {
      const release = occupy('score');
      try {
        await orAborted(settling, signal);
        const holder = getLoaded();
        const tokenIds = resolvePrompt(request, holder.runtime.manifest, holder.tokenizer, false);
        const losses = new DeviceReplacement(holder, memoryWatch);
        const score = () => {
          const { runtime, runner } = losses.use();
          return scoreTokens(runtime, runner, tokenIds, signal);
        };
        return await retryThroughLosses(losses, score, signal);
      } finally {
        release();
      }
    },

    setExpertBudget(budget) {
      return new Promise((resolve, reject) => {
        pendingBudgets.push({ budget, resolve, reject });
        if (busyWith === null) stopIdle();
        if (busyWith === null || isSuspended) settle();
        if (busyWith === null) startIdle();
      });
    },

    watchMemory: (listener) => memoryWatch.listeners.add(listener),

    async listModels(kind) {
      return listModels(await findStore(kind));
    },

    async removeModel(kind, modelId) {
      if (loaded?.runtime.manifest.modelId === modelId) {
        throw new EngineError('BUSY', `model ${modelId} is loaded: unload it before removing it`);
      }
      await removeModel(await findStore(kind), modelId);
    },

    async unload() {
      const release = occupy('unload');
      try {
        await settling;
        await unloadNow();
      } finally {
        release();
      }
    },
  };
}
