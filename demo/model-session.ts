/**
 * Which model is loaded, or how far loading has come.
 * Owns the order of loads: a new one aborts the one before it, and the expert budget in effect. Never generates.
 */
import {
  type Engine,
  EngineError,
  type ForecastFiles,
  type LoadedModel,
  type LoadProgress,
  type ModelSource,
} from '../src/index';
import { Observable } from './observable';
import { asEngineError } from './thrown';

/** The model that is served with the page, one of the hub (`hf:owner/name`) or of a URL, or a GGUF file of the user's. */
export type ModelChoice =
  | { readonly kind: 'embedded' }
  | { readonly kind: 'url'; readonly url: string }
  | { readonly kind: 'file'; readonly file: File };

/** Choices that are not the page's own. */
export const OUTSIDE_CHOICES: ReadonlySet<ModelChoice['kind']> = new Set(['url', 'file']);

type Steps = Extract<LoadProgress, { readonly phase: 'install' | 'weights' | 'compile' }>;

/** The latest report of each step of a load; a step that is absent has not begun, or is not needed. */
export type LoadSteps = { readonly [P in Steps['phase']]?: Extract<Steps, { readonly phase: P }> };

/** What became of the latest change of the expert budget. */
export type BudgetChange =
  | { readonly status: 'pending' }
  | { readonly status: 'done'; readonly warning: string | null }
  | { readonly status: 'refused'; readonly error: EngineError };

export type ModelState =
  | { readonly status: 'loading'; readonly choice: ModelChoice; readonly steps: LoadSteps }
  | {
      readonly status: 'ready';
      readonly choice: ModelChoice;
      readonly model: LoadedModel;
      readonly loadMs: number;
      readonly warnings: readonly string[];
      /** Share of each layer's experts that was asked for and granted. */
      readonly expertPercent: number;
      /** Null until the budget is changed for the first time. */
      readonly budgetChange: BudgetChange | null;
    }
  | { readonly status: 'failed'; readonly choice: ModelChoice; readonly error: EngineError };

/** After these there is no model any more, whatever was asked for. */
const FATAL_CODES: ReadonlySet<string> = new Set(['WORKER_DEAD', 'DEVICE_LOST', 'GPU_ERROR', 'NOT_LOADED']);

export class ModelSession extends Observable<ModelState> {
  readonly #engine: Engine;
  #current: { readonly controller: AbortController; readonly ended: Promise<void> } | null = null;
  #budgetChanges = 0;

  constructor(engine: Engine) {
    super({ status: 'loading', choice: { kind: 'embedded' }, steps: {} });
    this.#engine = engine;
    // A new device may have fewer slots, or be another one.
    engine.watchMemory(({ cause, slotsPerLayer, plannedGpuBytes, device }) => {
      if (cause !== 'restored' || this.value.status !== 'ready') return;
      this.set({ ...this.value, model: { ...this.value.model, slotsPerLayer, plannedGpuBytes, ...device } });
    });
  }

  /** Loads `choice` with this share of its experts on the GPU; resolves when it is ready, failed or replaced. */
  load(choice: ModelChoice, expertPercent: number): Promise<void> {
    const before = this.#current;
    before?.controller.abort();
    const controller = new AbortController();
    this.set({ status: 'loading', choice, steps: {} });
    const ended = (before?.ended ?? Promise.resolve()).then(() => this.#run(choice, expertPercent, controller.signal));
    this.#current = { controller, ended };
    return ended;
  }

  /**
   * Asks for another share of the experts, also while an answer is being written; the state says what came of it.
   * Does nothing unless a model is ready.
   */
  async changeBudget(expertPercent: number): Promise<void> {
    const load = this.#current;
    const change = ++this.#budgetChanges;
    const update = (changed: Partial<Extract<ModelState, { status: 'ready' }>>) => {
      // Another model may have taken the place of the one that was asked.
      if (this.value.status === 'ready' && this.#current === load) this.set({ ...this.value, ...changed });
    };
    const conclude = (budgetChange: BudgetChange) => {
      if (change === this.#budgetChanges) update({ budgetChange });
    };
    if (this.value.status !== 'ready') return;
    update({ budgetChange: { status: 'pending' } });
    try {
      const { slotsPerLayer, plannedGpuBytes, warning } = await this.#engine.setExpertBudget({
        percent: expertPercent,
      });
      if (this.value.status !== 'ready') return;
      const { model } = this.value;
      // A warning with the old size says that the new one had no room.
      const kept = warning !== null && slotsPerLayer === model.slotsPerLayer;
      update({ model: { ...model, slotsPerLayer, plannedGpuBytes }, ...(!kept && { expertPercent }) });
      conclude({ status: 'done', warning });
    } catch (thrown) {
      const error = asEngineError(thrown);
      conclude({ status: 'refused', error });
      if (FATAL_CODES.has(error.code) && this.value.status === 'ready' && this.#current === load)
        this.set({ status: 'failed', choice: this.value.choice, error });
    }
  }

  async #run(choice: ModelChoice, expertPercent: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const startMs = performance.now();
    const warnings: string[] = [];
    let steps: LoadSteps = {};
    const report = (progress: LoadProgress) => {
      if (signal.aborted) return;
      if (progress.phase === 'warning') {
        warnings.push(progress.message);
        return;
      }
      steps = { ...steps, [progress.phase]: progress };
      this.set({ status: 'loading', choice, steps });
    };
    try {
      assertWebGpu();
      const { source, forecast } = await readSource(choice, signal);
      const options = { expertBudget: { percent: expertPercent }, forecast };
      const model = await this.#engine.load(source, options, report, signal);
      if (signal.aborted) return;
      const loadMs = performance.now() - startMs;
      this.set({ status: 'ready', choice, model, loadMs, warnings, expertPercent, budgetChange: null });
    } catch (thrown) {
      if (!signal.aborted) this.set({ status: 'failed', choice, error: asEngineError(thrown) });
    }
  }
}

/** Said before anything is downloaded; whether there is an adapter too, the engine finds out. */
function assertWebGpu(): void {
  if (!('gpu' in navigator))
    throw new EngineError('NO_WEBGPU', 'This page runs the model on WebGPU, which is not here.');
}

/** The embedded model's address is in a file beside it, so that another model is another file and not another page. */
async function readSource(
  choice: ModelChoice,
  signal: AbortSignal,
): Promise<{ source: ModelSource; forecast: ForecastFiles }> {
  if (choice.kind === 'file') {
    return { source: { kind: 'file', file: choice.file, name: choice.file.name }, forecast: {} };
  }
  if (choice.kind === 'url') return { source: { kind: 'url', url: choice.url }, forecast: {} };
  const pointer = new URL('models/default.json', document.baseURI);
  let url: unknown;
  let forecast: ForecastFiles;
  try {
    const response = await fetch(pointer, { signal });
    if (!response.ok) throw new Error(`HTTP status ${response.status}`);
    ({ url, forecast = {} } = await response.json());
  } catch (cause) {
    const message = `The address of the embedded model could not be read from ${pointer.pathname} (${cause}). Try again.`;
    throw new EngineError('NETWORK', message, { cause });
  }
  if (typeof url !== 'string') throw new EngineError('NETWORK', `${pointer.pathname} names no "url" of a model.`);
  const files = Object.entries(forecast).map(([name, path]) => [name, new URL(path, document.baseURI).href]);
  return { source: { kind: 'url', url: new URL(url, document.baseURI).href }, forecast: Object.fromEntries(files) };
}
