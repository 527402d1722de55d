/**
 * The measurements of `npm run perf`, beside the engine: in a page or, over Dawn's bindings, in Node.
 * Owns the stores. Never decides what is measured, nor sums anything up.
 */
import { getPageKey, type ModelManifest } from '../../src/checkpoint/manifest';
import type { Engine, ForecastFiles, GenerateRequest, ModelSource } from '../../src/engine/engine';
import type { OpenPathModel } from '../../src/engine/forecast-shelf';
import { createLocalEngine } from '../../src/engine/local-engine';
import { openSource } from '../../src/engine/open-source';
import { createRuntime, type Runtime, type RuntimeRequest } from '../../src/engine/runtime';
import { assert } from '../../src/errors';
import { type DeviceOptions, requireAdapter } from '../../src/gpu/device';
import { Submission } from '../../src/gpu/pass';
import type { ModelStore, StoreKind } from '../../src/store/model-store';
import { openStore } from '../../src/store/open-store';
import { createVerifiedReader } from '../../src/store/verified-reader';
import { createTokenizer } from '../../src/text/tokenizer';
import { watchDispatches } from './dispatch-watch';
import { type KernelBench, openKernelBench } from './kernel-bench';
import { limitStore } from './limited-store';
import { runningText } from './prompts';
import type { Bench, BenchModel, BenchPrompt, EngineJob, GenerationSample } from './protocol';
import { writeRandomModel } from './random-model';
import type { RandomShape } from './random-shapes';
import { watchShadow } from './shadow-watch';
import { StreamBench } from './stream-bench';

export interface BenchEnvironment {
  /** Default: the browser's. */
  readonly gpu?: GPU;
  readonly source: ModelSource;
  /** What comes with the model. */
  readonly forecast: ForecastFiles;
  /** Absent: the learned predictor is refused. */
  readonly openPathModel?: OpenPathModel;
}

export function createBench({ gpu, source, forecast, openPathModel }: BenchEnvironment): Bench {
  const bases = new Map<StoreKind, ModelStore>();
  const device = gpu ? { gpu } : {};
  /** By the random shape's name; '' is the model that the bench was made for. */
  const modelIds = new Map<string, string>();
  const randomFiles = new Map<string, Blob>();
  let kernels: { readonly bench: KernelBench; readonly runtime: Runtime } | undefined;

  const getSource = (random?: RandomShape): ModelSource => {
    if (!random) return source;
    const file = randomFiles.get(random.name) ?? writeRandomModel(random);
    randomFiles.set(random.name, file);
    return { kind: 'file', file, name: `${random.name}.gguf` };
  };

  const getBase = async (kind: StoreKind): Promise<ModelStore> => {
    const base = bases.get(kind) ?? (await openStore(kind));
    bases.set(kind, base);
    return base;
  };

  const streams = new StreamBench(getBase, device);

  const getManifest = async (kind: StoreKind, random?: RandomShape): Promise<ModelManifest> => {
    const modelId = modelIds.get(random?.name ?? '');
    const manifest = modelId === undefined ? undefined : await (await getBase(kind)).readManifest(modelId);
    assert(manifest, `the model is installed in ${kind}`);
    return manifest;
  };

  const openRuntime = async (
    kind: StoreKind,
    request: RuntimeRequest,
    random?: RandomShape,
    options: DeviceOptions = device,
  ): Promise<Runtime> => {
    const manifest = await getManifest(kind, random);
    return createRuntime(manifest, createVerifiedReader(await getBase(kind), manifest), options, request, () => {});
  };

  const withEngine = async <T>(job: EngineJob, use: (engine: Engine, loadMs: number) => Promise<T>): Promise<T> => {
    const store = limitStore(await getBase(job.store), {
      bytesPerSecond: job.storeBytesPerSecond,
    });
    const engine = createLocalEngine({
      ...device,
      openStore: async () => store,
      readbackDelayMs: job.readbackDelayMs ?? 0,
      ...(openPathModel ? { openPathModel } : {}),
    });
    const startMs = performance.now();
    const loaded = await engine.load(getSource(job.random), {
      store: job.store,
      expertBudget: job.expertBudget,
      // No prompt pays for keeping the one before it.
      prefixCacheBytes: 0,
      ...(job.predictors === 'shipped' ? { forecast } : {}),
      ...(job.eviction === undefined ? {} : { eviction: job.eviction }),
      ...(job.hostCacheBytes === undefined ? {} : { hostCacheBytes: job.hostCacheBytes }),
    });
    const loadMs = performance.now() - startMs;
    modelIds.set(job.random?.name ?? '', loaded.modelId);
    try {
      return await use(engine, loadMs);
    } finally {
      await engine.unload();
    }
  };

  /** For what the engine's interface does not show. */
  const withRuntime = async <T>(
    kind: StoreKind,
    request: RuntimeRequest,
    use: (runtime: Runtime) => Promise<T>,
    random?: RandomShape,
  ): Promise<T> => {
    const runtime = await openRuntime(kind, request, random);
    try {
      return await use(runtime);
    } finally {
      runtime.destroy();
    }
  };

  /** Without a store: every page is made from ranges of the model's file. */
  const withSourceRuntime = async <T>(request: RuntimeRequest, use: (runtime: Runtime) => Promise<T>): Promise<T> => {
    const opened = await openSource(source, null, undefined, {}, () => {});
    const { records } = opened;
    try {
      const runtime = await createRuntime(records.manifest, records, device, request, () => {});
      try {
        return await use(runtime);
      } finally {
        runtime.destroy();
      }
    } finally {
      await opened.close();
    }
  };

  const getRequest = async (kind: StoreKind, prompt: BenchPrompt, random?: RandomShape): Promise<GenerateRequest> => {
    if (random && 'promptTokens' in prompt) {
      return { tokenIds: Array.from({ length: prompt.promptTokens }, (_, i) => (i * 7919 + 1) % random.vocabSize) };
    }
    if ('text' in prompt) return { messages: [{ role: 'user', content: prompt.text }] };
    const tokenizer = createTokenizer((await getManifest(kind)).tokenizer);
    const tokenIds: number[] = [];
    while (tokenIds.length < prompt.promptTokens) {
      tokenIds.push(...tokenizer.encode(runningText, { parseSpecial: false, addBos: tokenIds.length === 0 }));
    }
    return { tokenIds: tokenIds.slice(0, prompt.promptTokens) };
  };

  return {
    async install(kind, random): Promise<BenchModel> {
      const store = await getBase(kind);
      const engine = createLocalEngine({ ...device, openStore: async () => store });
      // All of it: what is measured later must not share the time with a download.
      const loaded = await engine.load(getSource(random), { store: kind, startEarly: false });
      modelIds.set(random?.name ?? '', loaded.modelId);
      await engine.unload();
      const { pageLayouts } = await getManifest(kind, random);
      const { info } = await requireAdapter(device);
      return {
        name: loaded.name,
        layers: loaded.layers,
        moeLayers: loaded.moeLayers,
        experts: loaded.experts,
        hasLearned: openPathModel !== undefined && forecast.learnedUrl !== undefined,
        pageBytes: pageLayouts.reduce((sum, { pageBytes }) => sum + pageBytes, 0) / pageLayouts.length,
        adapter: loaded.adapter,
        isSoftware: info.isFallbackAdapter,
      };
    },

    async generate(job): Promise<GenerationSample> {
      const requests = await Promise.all(job.prompts.map((prompt) => getRequest(job.store, prompt, job.random)));
      return withEngine(job, async (engine, loadMs) => {
        const answers: GenerationSample['answers'][number][] = [];
        for (const [index, request] of requests.entries()) {
          const prompt = job.prompts[index] as BenchPrompt;
          const startMs = performance.now();
          let firstTokenMs: number | undefined;
          const events = engine.generate({
            ...request,
            maxTokens: job.tokens,
            ...('grammar' in prompt && prompt.grammar ? { grammar: prompt.grammar } : { ignoreEos: true }),
            topLogprobs: 0,
            // Prompts of a job begin alike, and each is to be measured whole.
            reusePrefix: false,
            ...('seed' in prompt ? { sampling: { temperature: 0.7, seed: prompt.seed } } : {}),
            ...(job.paging ? { paging: job.paging } : {}),
            ...(job.draft ? { draft: job.draft } : {}),
            ...(job.tokensPerSubmit ? { tokensPerSubmit: job.tokensPerSubmit } : {}),
          });
          for await (const event of events) {
            if (event.type === 'token') firstTokenMs ??= performance.now() - startMs;
            if (event.type !== 'done') continue;
            const { stats, tokenIds, logprobs } = event.result;
            answers.push({ firstTokenMs: firstTokenMs ?? Number.NaN, stats, tokenIds, logprobs });
          }
        }
        return { loadMs, answers };
      });
    },

    async getPrompt(store, promptTokens) {
      const ids = [...((await getRequest(store, { promptTokens })).tokenIds ?? [])];
      const tokenizer = createTokenizer((await getManifest(store)).tokenizer);
      return { ids, text: await new Blob(ids.map((id) => tokenizer.getTokenBytes(id))).text() };
    },

    async openKernels({ store, random, promptTokens }) {
      const watch = watchDispatches(gpu ?? navigator.gpu);
      const runtime = await openRuntime(store, {}, random, { gpu: watch.gpu });
      kernels = { runtime, bench: await openKernelBench(runtime, watch, promptTokens) };
      const { kinds, usesTimestamps } = kernels.bench;
      return { kinds, usesTimestamps };
    },

    async timeKernel(index) {
      assert(kernels, 'kernels are open');
      return kernels.bench.time(index);
    },

    async closeKernels() {
      kernels?.bench.close();
      kernels?.runtime.destroy();
      kernels = undefined;
    },

    calibrate: () =>
      withRuntime(bases.has('indexeddb') ? 'indexeddb' : 'memory', {}, async ({ calibration }) => calibration),

    serveFaults: ({ store, from, staging, random, trials }) => {
      const request = { expertBudget: { percent: 50 }, staging, ...(from === 'ram' ? {} : { hostCacheBytes: 0 }) };
      if (from === 'network') return withSourceRuntime(request, (runtime) => timeFaults(runtime, trials));
      const serve = async (runtime: Runtime): Promise<number[]> => {
        // Every page is read once: into RAM where there is room, and its digest is checked once and for all.
        for (const key of listPageKeys(runtime.manifest)) await runtime.host.read(key);
        const before = runtime.host.past.pages;
        const timesMs = await timeFaults(runtime, trials);
        const staged = runtime.host.past.pages - before;
        assert(staged === (staging === 'on' ? trials : 0), `${staged} of ${trials} pages went into mapped memory`);
        return timesMs;
      };
      return withRuntime(store, request, serve, random);
    },

    streamRecords: (job) => streams.stream(job),

    async readPages({ store, parallel }) {
      const base = await getBase(store);
      const manifest = await getManifest(store);
      const keys = listPageKeys(manifest);
      const pages = keys.length;
      let bytes = 0;
      const readFromQueue = async (): Promise<void> => {
        for (let key = keys.pop(); key !== undefined; key = keys.pop()) {
          const page = await base.readRecord(manifest.modelId, key);
          bytes += page.byteLength;
        }
      };
      const startMs = performance.now();
      await Promise.all(Array.from({ length: parallel }, readFromQueue));
      return { pages, bytes, elapsedMs: performance.now() - startMs };
    },

    watchShadow: async ({ expertBudget, prompts, tokens }) => {
      const kind: StoreKind = bases.has('indexeddb') ? 'indexeddb' : 'memory';
      const requests = await Promise.all(prompts.map((prompt) => getRequest(kind, prompt)));
      return withRuntime(kind, { expertBudget }, (runtime) => watchShadow(runtime, requests, tokens));
    },
  };
}

/** Per trial: from the known fault until the GPU has the page and has answered. */
async function timeFaults({ device, manifest, pager, state }: Runtime, trials: number): Promise<number[]> {
  const { experts } = manifest.config.moe;
  const layers = manifest.pageLayouts.length;
  const timesMs: number[] = [];
  for (let trial = 0; trial < trials; trial++) {
    const moeLayer = trial % layers;
    const absent = Array.from({ length: experts }, (_, expert) => expert).filter(
      (expert) => !pager.isResident(moeLayer, expert),
    );
    const expert = absent[(trial * 7) % absent.length] as number;
    const startMs = performance.now();
    await pager.ensure(moeLayer, [expert]);
    // The queue keeps its order: what is read back behind an upload proves that it has arrived.
    const submission = new Submission(device);
    await submission.submitAndRead([{ source: state.control, offsetBytes: 0, sizeBytes: 4 }], state.readback);
    timesMs.push(performance.now() - startMs);
  }
  return timesMs;
}

/** Expert by expert through all layers: no run of neighbours in one layer, which a token would not ask for. */
function listPageKeys({ config, pageLayouts }: ModelManifest): string[] {
  return Array.from({ length: config.moe.experts }, (_, expert) =>
    Array.from(pageLayouts.keys(), (moeLayer) => getPageKey(moeLayer, expert)),
  ).flat();
}
