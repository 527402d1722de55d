/** What `npm run perf` asks of other runtimes in the same page, as plain data. Owns types and names only. */

export const peerNames = ['onnxruntime-web webgpu', 'onnxruntime-web wasm', 'wllama'] as const;
export type PeerName = (typeof peerNames)[number];

/** Where the page finds what it runs; every file is served as its package has it. */
export const peerRoute = '/peers/';

/** What a caller has to know to run the ONNX graph. */
export interface PeerShape {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
}

export interface PeerSetUp {
  readonly shape: PeerShape;
  /** Of the GGUF file. */
  readonly modelUrl: string;
}

/** What came of opening a peer. */
export interface OpenPeer {
  readonly threads: number;
  /** Share of the model's operators, or of its layers, that run on WebGPU. */
  readonly shareOnGpu: number;
  /** For people: why not all of it. */
  readonly remark: string | null;
}

export interface PeerJob {
  readonly promptIds: readonly number[];
  /** The same as text, for a runtime that takes no ids; it may cut it into a token more or less. */
  readonly promptText: string;
  /** Decoded behind the prompt, greedily, and timed. */
  readonly tokens: number;
}

export interface PeerSample {
  /** Fed before the first answer. */
  readonly promptTokens: number;
  /** To the first token. */
  readonly prefillMs: number;
  /** Of one token, the mean of all but the first pass, which still makes what it needs. */
  readonly msPerToken: number;
  /** What was decoded; null where a runtime does not say. */
  readonly tokenIds: readonly number[] | null;
}

/** One call at a time. */
export interface Peer {
  open(setUp: PeerSetUp): Promise<OpenPeer>;
  run(job: PeerJob): Promise<PeerSample>;
  close(): Promise<void>;
}

export type GetPeer = (name: PeerName) => Peer;

/** As data: Playwright's bridge and workers keep no error's class. */
export type PeerOutcome =
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly message: string };

declare global {
  interface Window {
    /** Set by the page once its script has run. */
    webmoePeers?: (peer: PeerName, method: keyof Peer, args: readonly unknown[]) => Promise<PeerOutcome>;
  }
}
