/**
 * The page behind `npm run perf`: the bench of this page, callable from outside. The model's route is in the fragment.
 * Never measures by itself.
 */
import { createBench } from './bench';
import type { Bench } from './protocol';

const url = new URL(decodeURIComponent(location.hash.slice(1)), location.href).href;
const bench = createBench({ source: { kind: 'url', url } });

window.webmoePerf = async (method, args) => {
  try {
    const call = bench[method] as (...values: readonly unknown[]) => ReturnType<Bench[typeof method]>;
    return { ok: true, result: await call(...args) };
  } catch (error) {
    const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'INTERNAL';
    return { ok: false, code, message: error instanceof Error ? error.message : String(error) };
  }
};
