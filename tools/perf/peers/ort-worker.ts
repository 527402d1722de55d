/**
 * onnxruntime-web in a worker of its own, with one execution provider: the first message names it.
 * Owns the session and its cache of keys and values, which stay on the GPU; never measures anything but itself.
 */
import type * as Ort from 'onnxruntime-web/webgpu';
import {
  type OpenPeer,
  type Peer,
  type PeerOutcome,
  type PeerSample,
  type PeerShape,
  peerRoute,
} from './peer-protocol';

export interface OrtCall {
  readonly provider: 'webgpu' | 'wasm';
  readonly method: keyof Peer;
  readonly args: readonly unknown[];
}

/** The package's own file for a provider. */
const modules = { webgpu: 'ort.webgpu.min.mjs', wasm: 'ort.wasm.min.mjs' } as const;

type Cache = Readonly<Record<string, Ort.Tensor>>;

class OrtPeer implements Peer {
  #ort!: typeof Ort;
  #session!: Ort.InferenceSession;
  #shape!: PeerShape;

  constructor(private readonly provider: OrtCall['provider']) {}

  async open({ shape }: Parameters<Peer['open']>[0]): Promise<OpenPeer> {
    this.#shape = shape;
    this.#ort = await import(/* @vite-ignore */ `${location.origin}${peerRoute}${modules[this.provider]}`);
    const { env } = this.#ort;
    env.wasm.wasmPaths = `${location.origin}${peerRoute}`;
    env.wasm.numThreads = globalThis.crossOriginIsolated ? navigator.hardwareConcurrency : 1;
    const threads = env.wasm.numThreads;
    if (this.provider === 'wasm') {
      await this.#create(false);
      return { threads, shareOnGpu: 0, remark: null };
    }
    try {
      await this.#create(true);
      return { threads, shareOnGpu: 1, remark: null };
    } catch (error) {
      await this.#create(false);
      return {
        threads,
        shareOnGpu: Number.NaN,
        remark: `part of the graph runs on the CPU: ${(error as Error).message}`,
      };
    }
  }

  /** @param isWhole no node may fall back to the CPU. */
  async #create(isWhole: boolean): Promise<void> {
    const caches = this.#listCaches('present').map((name) => [name, 'gpu-buffer'] as const);
    this.#session = await this.#ort.InferenceSession.create(`${location.origin}${peerRoute}model.onnx`, {
      executionProviders: [this.provider],
      graphOptimizationLevel: 'all',
      // As chat pages do: the cache never leaves the GPU.
      ...(this.provider === 'webgpu' && { preferredOutputLocation: Object.fromEntries(caches) }),
      ...(isWhole && { extra: { session: { disable_cpu_ep_fallback: '1' } } }),
    });
  }

  async run({ promptIds, tokens }: Parameters<Peer['run']>[0]): Promise<PeerSample> {
    const startMs = performance.now();
    let { id, cache } = await this.#feed(promptIds, this.#createCache(), 0);
    const prefillMs = performance.now() - startMs;
    const tokenIds = [id];
    let decodeMs = 0;
    for (let i = 0; i <= tokens; i++) {
      const stepMs = performance.now();
      const next = await this.#feed([id], cache, promptIds.length + i);
      // The first pass of one token makes its pipelines.
      if (i > 0) decodeMs += performance.now() - stepMs;
      ({ id, cache } = next);
      tokenIds.push(id);
    }
    for (const tensor of Object.values(cache)) tensor.dispose();
    return { promptTokens: promptIds.length, prefillMs, msPerToken: decodeMs / tokens, tokenIds };
  }

  async close(): Promise<void> {
    await this.#session.release();
  }

  async #feed(ids: readonly number[], cache: Cache, length: number): Promise<{ id: number; cache: Cache }> {
    const { Tensor } = this.#ort;
    const total = length + ids.length;
    const outputs = await this.#session.run({
      input_ids: new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
      seqlens_k: new Tensor('int32', Int32Array.of(total - 1), [1]),
      total_length: new Tensor('int32', Int32Array.of(total), [1]),
      ...cache,
    });
    const logits = outputs.logits?.data as Float32Array;
    const id = logits.reduce((best, value, i) => (value > (logits[best] as number) ? i : best), 0);
    for (const tensor of Object.values(cache)) tensor.dispose();
    const present = this.#listCaches('present');
    const next = this.#listCaches('past').map((name, i) => [name, outputs[present[i] as string] as Ort.Tensor]);
    return { id, cache: Object.fromEntries(next) };
  }

  #createCache(): Cache {
    const { kvHeads, headDim } = this.#shape;
    return Object.fromEntries(
      this.#listCaches('past').map((name) => [
        name,
        new this.#ort.Tensor('float32', new Float32Array(0), [1, kvHeads, 0, headDim]),
      ]),
    );
  }

  #listCaches(kind: 'past' | 'present'): string[] {
    return Array.from(
      { length: this.#shape.layers * 2 },
      (_, i) => `${kind}.${i >> 1}.${i % 2 === 0 ? 'key' : 'value'}`,
    );
  }
}

let peer: OrtPeer | undefined;

addEventListener('message', ({ data: { provider, method, args } }: MessageEvent<OrtCall>) => {
  peer ??= new OrtPeer(provider);
  const run = peer[method].bind(peer) as (...values: readonly unknown[]) => Promise<unknown>;
  const reply = (outcome: PeerOutcome): void => postMessage(outcome);
  run(...args).then(
    (result) => reply({ ok: true, result }),
    (error) => reply({ ok: false, message: error instanceof Error ? error.message : String(error) }),
  );
});
