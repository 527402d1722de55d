/**
 * The page behind `npm run perf`: a bench in a worker, callable from outside. The routes of the model and of what comes
 * with it are in the fragment.
 * Never measures by itself.
 */
import { resolveForecast } from '../engine-page/forecast-urls';
import type { BenchCall, BenchReply, BenchSetUp } from './bench-worker';
import { callPeer } from './peers/peer-page';
import type { BenchOutcome } from './protocol';

const [modelRoute = '', forecast = '{}'] = location.hash.slice(1).split('&').map(decodeURIComponent);
const worker = new Worker(new URL('./bench-worker.ts', import.meta.url), { type: 'module' });
const pending = new Map<number, (outcome: BenchOutcome) => void>();
let calls = 0;

worker.addEventListener('message', ({ data: { id, outcome } }: MessageEvent<BenchReply>) => {
  pending.get(id)?.(outcome);
  pending.delete(id);
});
worker.addEventListener('error', ({ message }) => {
  for (const reply of pending.values()) reply({ ok: false, code: 'WORKER_DEAD', message: message || 'no script' });
  pending.clear();
});
const setUp: BenchSetUp = {
  source: { kind: 'url', url: new URL(modelRoute, location.href).href },
  forecast: resolveForecast(JSON.parse(forecast), location.href),
};
worker.postMessage(setUp);

window.webmoePeers = callPeer;
window.webmoePerf = (method, args) =>
  new Promise((resolve) => {
    const call: BenchCall = { id: ++calls, method, args };
    pending.set(call.id, resolve);
    worker.postMessage(call);
  });
