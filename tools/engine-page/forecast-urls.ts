/** Paths of forecast files as URLs: a worker would resolve them against its own script. Pure. */
import type { ForecastFiles } from '../../src/engine/engine.ts';

export function resolveForecast(files: ForecastFiles, base: string): ForecastFiles {
  return Object.fromEntries(Object.entries(files).map(([name, url]) => [name, new URL(url, base).href]));
}
