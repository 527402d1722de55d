/**
 * The forecasts of one loaded model: made on first use, warm from what an earlier visit learnt, kept for the next one.
 * Owns where that is stored; never what it says.
 */
import type { ModelManifest } from '../checkpoint/manifest';
import type { PredictorState } from '../routing/predictor';
import type { ModelStore } from '../store/model-store';
import type { PredictorName } from './engine';
import { createForecast, type Forecast } from './forecast';

export class ForecastShelf {
  readonly #forecasts = new Map<PredictorName, Promise<Forecast>>();
  #warnings: string[] = [];

  constructor(
    private readonly manifest: ModelManifest,
    private readonly store: ModelStore,
  ) {}

  get(name: PredictorName): Promise<Forecast> {
    let forecast = this.#forecasts.get(name);
    if (!forecast) {
      forecast = this.#load(name);
      this.#forecasts.set(name, forecast);
    }
    return forecast;
  }

  /** What went wrong since the last call; nothing of it touches a token. */
  takeWarnings(): string[] {
    const warnings = this.#warnings;
    this.#warnings = [];
    return warnings;
  }

  /** Keeps what a forecast learnt. Never fails: without it the next visit starts cold, which costs time and no token. */
  async save(forecast: Forecast): Promise<void> {
    const state = forecast.save();
    if (!state) return;
    try {
      await this.store.writeState(this.manifest.modelId, getStateName(forecast.name), state);
    } catch (error) {
      this.#warnings.push(`what the predictor ${forecast.name} learnt could not be kept: ${String(error)}`);
    }
  }

  async #load(name: PredictorName): Promise<Forecast> {
    const { layers, experts, expertsPerToken } = {
      layers: this.manifest.config.moeLayers.length,
      ...this.manifest.config.moe,
    };
    const create = (): Forecast => createForecast(name, { layers, experts, expertsPerToken });
    const forecast = create();
    try {
      const state = await this.store.readState(this.manifest.modelId, getStateName(name));
      if (state !== undefined) forecast.restore(state as PredictorState);
      return forecast;
    } catch (error) {
      this.#warnings.push(`what the predictor ${name} had learnt is lost, it starts anew: ${String(error)}`);
      return create();
    }
  }
}

function getStateName(name: PredictorName): string {
  return `predictor-${name}`;
}
