/**
 * The page behind `npm run perf`: the bench of this page, callable from outside. The routes of
 * the model and of what comes with it are in the fragment.
 * Never measures by itself.
 */
import { openPathModel } from '../../src/worker/path-model';
import { resolveForecast } from '../engine-page/forecast-urls';
import { createBench } from './bench';
import type { Bench } from './protocol';

const [modelRoute = '', forecast = '{}'] = location.hash.slice(1).split('&').map(decodeURIComponent);
const bench = createBench({
  source: { kind: 'url', url: new URL(modelRoute, location.href).href },
  forecast: resolveForecast(JSON.parse(forecast), location.href),
  openPathModel,
});

window.webmoePerf = async (method, args) => {
  try {
    const call = bench[method] as (...values: readonly unknown[]) => ReturnType<Bench[typeof method]>;
    return { ok: true, result: await call(...args) };
  } catch (error) {
    const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'INTERNAL';
    return { ok: false, code, message: error instanceof Error ? error.message : String(error) };
  }
};
