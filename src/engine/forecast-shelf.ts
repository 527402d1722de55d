/**
 * The forecasts of one loaded model: made on first use, warm from what an earlier visit learnt or from what came with the
 * model, kept for the next visit. Owns where that is read and written, and how often; never what it says.
 */
import { orAborted, throwIfAborted } from '../aborts';
import type { ModelManifest } from '../checkpoint/manifest';
import { EngineError } from '../errors';
import type { PathModel } from '../routing/learned';
import type { PredictorState } from '../routing/predictor';
import { parseStateFile } from '../routing/state-file';
import type { RoutingShape } from '../routing/token-routes';
import type { ModelStore } from '../store/model-store';
import { readSideFile } from '../store/side-file';
import type { ForecastFiles, PredictorName } from './engine';
import { createForecast, type Forecast } from './forecast';

/** Opens the learned predictor's network somewhere that does not keep the engine waiting; ends when the signal fires. */
export type OpenPathModel = (
  network: Uint8Array,
  shape: RoutingShape,
  onFailure: (error: EngineError) => void,
  signal: AbortSignal,
) => Promise<PathModel>;

export interface ForecastSources {
  readonly files?: ForecastFiles | undefined;
  /** URL of the model, when it has one: the learned network may lie beside it. */
  readonly modelUrl?: string | undefined;
  readonly openPathModel?: OpenPathModel | undefined;
}

/** After a visit's first answer, what was learnt is written every so many tokens: a write costs a copy. */
const SAVE_TOKENS = 256;

export class ForecastShelf {
  readonly #forecasts = new Map<PredictorName, Promise<Forecast>>();
  /** Tokens that each forecast had learnt from when it was last written. */
  readonly #savedTokens = new Map<Forecast, number>();
  #pathModel: Promise<PathModel> | null = null;
  #warnings: string[] = [];
  /** Ends what is being read and opened: the model goes. */
  readonly #closing = new AbortController();

  constructor(
    private readonly manifest: ModelManifest,
    private readonly store: ModelStore,
    private readonly sources: ForecastSources = {},
  ) {}

  /**
   * @param signal ends the waiting; what is read or opened goes on, for whoever asks next.
   * @throws EngineError for a learned predictor whose network is not to be had; `ABORTED`.
   */
  get(name: PredictorName, signal?: AbortSignal): Promise<Forecast> {
    let forecast = this.#forecasts.get(name);
    if (!forecast) {
      forecast = this.#load(name);
      this.#forecasts.set(name, forecast);
      forecast.catch(() => this.#forecasts.delete(name));
    }
    return orAborted(forecast, signal);
  }

  /** What went wrong since the last call; nothing of it touches a token. */
  takeWarnings(): string[] {
    const warnings = this.#warnings;
    this.#warnings = [];
    return warnings;
  }

  /**
   * Keeps what a forecast learnt, once that is enough to be worth the copy; `isLast`: whatever it is. Never fails: without
   * it the next visit knows less, which costs time and no token.
   */
  async save(forecast: Forecast, isLast = false): Promise<void> {
    const savedTokens = this.#savedTokens.get(forecast);
    const news = forecast.learntTokens - (savedTokens ?? 0);
    // A page is closed without notice: what a short visit learnt is kept after its first answer.
    if (news < (isLast || savedTokens === undefined ? 1 : SAVE_TOKENS)) return;
    const state = forecast.save();
    this.#savedTokens.set(forecast, forecast.learntTokens);
    if (!state) return;
    try {
      await this.store.writeState(this.manifest.modelId, getStateName(forecast.name), state);
    } catch (error) {
      this.#warnings.push(`what the predictor ${forecast.name} learnt could not be kept: ${String(error)}`);
    }
  }

  /** Writes what is left to write and ends what runs. Never fails. */
  async close(): Promise<void> {
    this.#closing.abort();
    for (const loading of [...this.#forecasts.values()]) {
      const forecast = await loading.catch(() => null);
      if (forecast) await this.save(forecast, true);
    }
    const pathModel = await this.#pathModel?.catch(() => null);
    pathModel?.close();
  }

  async #load(name: PredictorName): Promise<Forecast> {
    const { layers, experts, expertsPerToken } = {
      layers: this.manifest.config.moeLayers.length,
      ...this.manifest.config.moe,
    };
    const shape = { layers, experts, expertsPerToken };
    const isLearned = name === 'learned' || name === 'ensemble+learned';
    const pathModel = isLearned ? await this.#openPathModel(name, shape) : undefined;
    const create = (): Forecast => createForecast(name, shape, pathModel);
    const forecast = create();
    try {
      const kept = (await this.store.readState(this.manifest.modelId, getStateName(name))) as
        | PredictorState
        | undefined;
      const state = kept === undefined ? await this.#readTaught(name) : kept;
      if (state !== undefined) forecast.restore(state);
      return forecast;
    } catch (error) {
      this.#warnings.push(`what the predictor ${name} had learnt is lost, it starts anew: ${String(error)}`);
      return create();
    }
  }

  /** What came with the model; a predictor by itself takes its part of what the ensemble learnt. */
  async #readTaught(name: PredictorName): Promise<PredictorState | undefined> {
    const url = this.sources.files?.taughtUrl;
    if (url === undefined || name === 'none') return undefined;
    const file = await readSideFile(url, { signal: this.#closing.signal });
    if (file === null) throw new EngineError('NETWORK', `${url}: there is no such file; correct forecast.taughtUrl`);
    const ensemble = parseStateFile(file, url);
    return name.startsWith('ensemble') ? ensemble : ensemble.members?.[name];
  }

  #openPathModel(name: PredictorName, shape: RoutingShape): Promise<PathModel> {
    if (!this.#pathModel) {
      this.#pathModel = this.#readNetwork(name).then(({ network, open }) =>
        open(
          network,
          shape,
          (error) => {
            this.#warnings.push(error.message);
            // The next generation that asks for it tries again.
            this.#pathModel = null;
            for (const learned of ['learned', 'ensemble+learned'] as const) this.#forecasts.delete(learned);
          },
          this.#closing.signal,
        ),
      );
      this.#pathModel.catch(() => {
        this.#pathModel = null;
      });
    }
    return this.#pathModel;
  }

  /** Kept with the model once it was read: what is installed works without a network. */
  async #readNetwork(name: PredictorName): Promise<{ network: Uint8Array; open: OpenPathModel }> {
    const { files, modelUrl, openPathModel } = this.sources;
    if (!openPathModel) {
      throw new EngineError(
        'UNSUPPORTED',
        `the predictor ${name} runs in a worker, and this engine was made without one; use createEngine, or the predictor ensemble`,
      );
    }
    const kept = await this.store.readState(this.manifest.modelId, NETWORK_STATE).catch(() => undefined);
    throwIfAborted(this.#closing.signal);
    if (kept instanceof Uint8Array) return { network: kept, open: openPathModel };
    const url = files?.learnedUrl ?? modelUrl?.replace(/(\.[a-z0-9]+)?([?#].*)?$/i, '.routes.onnx');
    const network = url === undefined ? null : await readSideFile(url, { signal: this.#closing.signal });
    if (!network) {
      const where = url === undefined ? 'none was named' : `there is none at ${url}`;
      throw new EngineError(
        'UNSUPPORTED',
        `the predictor ${name} needs a network trained for this model, and ${where}; name one in forecast.learnedUrl when ` +
          'loading (tools/train/README.md says how to train it), or use the predictor ensemble',
      );
    }
    try {
      await this.store.writeState(this.manifest.modelId, NETWORK_STATE, network);
    } catch (error) {
      this.#warnings.push(`the learned predictor's network could not be kept: ${String(error)}`);
    }
    throwIfAborted(this.#closing.signal);
    return { network, open: openPathModel };
  }
}

const NETWORK_STATE = 'learned-network';

function getStateName(name: PredictorName): string {
  return `predictor-${name}`;
}
