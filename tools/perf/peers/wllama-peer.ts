/**
 * wllama (llama.cpp in WebAssembly) in the page, over the GGUF file itself; it makes its own workers.
 * Owns its life; whether it uses WebGPU is its own choice, which its log tells.
 */
import { type OpenPeer, type Peer, type PeerJob, type PeerSample, peerRoute } from './peer-protocol';

/**
 * What is used of `@wllama/wllama`, after its README: version 3.8.1 names its TypeScript sources as its types, and these do
 * not pass this project's compiler options.
 */
interface WllamaModule {
  readonly Wllama: new (
    assets: { readonly default: string },
    config: { readonly logger: Readonly<Record<'debug' | 'log' | 'warn' | 'error', (...parts: unknown[]) => void>> },
  ) => Wllama;
}
interface Wllama {
  loadModel(
    files: readonly Blob[],
    params: { readonly n_ctx: number; readonly n_threads: number; readonly n_parallel: number },
  ): Promise<void>;
  isMultithread(): boolean;
  createCompletion(request: Readonly<Record<string, unknown>>): Promise<Answer>;
  exit(): Promise<void>;
}

/** Of llama.cpp's completions. */
interface Answer {
  readonly timings: { readonly prompt_n: number; readonly prompt_ms: number; readonly predicted_ms: number };
}

export class WllamaPeer implements Peer {
  #wllama: Wllama | undefined;

  async open({ modelUrl }: Parameters<Peer['open']>[0]): Promise<OpenPeer> {
    const { Wllama }: WllamaModule = await import(/* @vite-ignore */ `${location.origin}${peerRoute}wllama.js`);
    const lines: string[] = [];
    const note = (...parts: unknown[]): void => {
      lines.push(parts.map(String).join(' '));
    };
    const wllama = new Wllama(
      { default: `${location.origin}${peerRoute}wllama.wasm` },
      { logger: { debug: note, log: note, warn: note, error: note } },
    );
    const threads = navigator.hardwareConcurrency;
    const file = await (await fetch(modelUrl)).blob();
    await wllama.loadModel([file], { n_ctx: 1024, n_threads: threads, n_parallel: 1 });
    this.#wllama = wllama;
    const [, offloaded, all] = /offloaded (\d+)\/(\d+) layers/.exec(lines.join('\n')) ?? [];
    const shareOnGpu = offloaded === undefined ? 0 : Number(offloaded) / Number(all);
    return {
      threads: wllama.isMultithread() ? threads : 1,
      shareOnGpu,
      remark: shareOnGpu === 1 ? null : await getReason(lines),
    };
  }

  async run({ promptText, tokens }: PeerJob): Promise<PeerSample> {
    if (!this.#wllama) throw new Error('wllama is not open');
    const { timings } = await this.#wllama.createCompletion({
      prompt: promptText,
      max_tokens: tokens + 1,
      temperature: 0,
      ignore_eos: true,
      cache_prompt: false,
    });
    return {
      promptTokens: timings.prompt_n,
      prefillMs: timings.prompt_ms,
      msPerToken: timings.predicted_ms / tokens,
      tokenIds: null,
    };
  }

  async close(): Promise<void> {
    await this.#wllama?.exit();
  }
}

/** llama.cpp's WebGPU needs shader-f16; without it, it computes on the CPU. */
async function getReason(lines: readonly string[]): Promise<string> {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter?.features.has('shader-f16')) return 'it computes on the CPU: the adapter has no shader-f16';
  return `it computes on the CPU: ${lines.find((line) => /webgpu/i.test(line)) ?? 'it does not say why'}`;
}
