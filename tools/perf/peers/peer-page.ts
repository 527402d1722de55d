/** The other runtimes of a page, by name: onnxruntime-web in workers, wllama beside them. Never measures by itself. */
import type { OrtCall } from './ort-worker';
import type { Peer, PeerName, PeerOutcome } from './peer-protocol';
import { WllamaPeer } from './wllama-peer';

const providers = { 'onnxruntime-web webgpu': 'webgpu', 'onnxruntime-web wasm': 'wasm' } as const;
const workers = new Map<PeerName, Worker>();
const wllama = new WllamaPeer();

export async function callPeer(name: PeerName, method: keyof Peer, args: readonly unknown[]): Promise<PeerOutcome> {
  if (name !== 'wllama') return callWorker(name, { provider: providers[name], method, args });
  try {
    const run = wllama[method].bind(wllama) as (...values: readonly unknown[]) => Promise<unknown>;
    return { ok: true, result: await run(...args) };
  } catch (error) {
    return { ok: false, message: error instanceof Error ? error.message : String(error) };
  }
}

/** One call at a time, so the next message is its answer. */
function callWorker(name: PeerName, call: OrtCall): Promise<PeerOutcome> {
  const worker = workers.get(name) ?? new Worker(new URL('./ort-worker.ts', import.meta.url), { type: 'module' });
  workers.set(name, worker);
  return new Promise((resolve) => {
    worker.onmessage = ({ data }: MessageEvent<PeerOutcome>) => resolve(data);
    worker.onerror = ({ message }) => resolve({ ok: false, message: message || 'its worker died' });
    worker.postMessage(call);
  });
}
