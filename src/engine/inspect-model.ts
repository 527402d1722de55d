/**
 * What a model is and what it would take, from the headers of its files alone: nothing is installed, no GPU is asked for.
 * Owns the report; memory-plan.ts plans.
 */
import type { QuantizedType } from '../checkpoint/formats/quantize';
import type { WeightType } from '../checkpoint/model-config';
import { sumBytes } from '../gpu/memory';
import { chooseKvType } from '../kernels/kv-type';
import { getExpectedHitRate, type HitRateRange } from '../routing/expected-hit-rate';
import { foreseeStore, getDefaultStore } from '../store/choose-store';
import { openModel } from '../store/open-model';
import { createTokenizer } from '../text/tokenizer';
import { isCopied } from './copy-choice';
import type { LoadOptions, ModelSource } from './engine';
import { type BindingLimits, getMemoryLimits, getSmallestPercent, type MemoryPlan, planMemory } from './memory-plan';
import { openFiles } from './open-files';
import { foreseeStagingPages } from './staging-choice';

/** How headers are read. */
export interface InspectOptions {
  /** Of a folder with safetensors files: as in `LoadOptions.quantize`. */
  readonly quantize?: QuantizedType;
  /** Default: the page's own. */
  readonly fetch?: typeof globalThis.fetch;
  readonly signal?: AbortSignal;
}

/** What a plan needs to know of a `GPUAdapter`, which is one of these. */
export interface PreviewAdapter {
  readonly limits: BindingLimits;
  readonly features: Pick<ReadonlySet<string>, 'has'>;
}

/** Those of `LoadOptions` that change the plan, and the adapter it is for. */
export interface MemoryPreviewRequest
  extends Pick<
    LoadOptions,
    'expertBudget' | 'gpuBudgetBytes' | 'contextLength' | 'kvType' | 'staging' | 'store' | 'copy' | 'defaultLimitsOnly'
  > {
  /**
   * The one that `load` takes: `navigator.gpu.requestAdapter({ powerPreference: 'high-performance' })`. Default: what every
   * WebGPU has, bindings of 128 MiB and no shader-f16.
   */
  readonly adapter?: PreviewAdapter | null;
}

/** What is planned on the GPU, in bytes. */
export interface PlannedMemory {
  readonly slotsPerLayer: number;
  /** On the GPU whatever the expert budget: weights that are no experts, KV cache, scratch, staging buffers. */
  readonly fixedBytes: number;
  /** Of `fixedBytes`: buffers that pages are read into on their way to their slots. */
  readonly stagingBytes: number;
  /** All slots of all layers. */
  readonly slotBytes: number;
  readonly totalBytes: number;
}

/** What loading a model would take on the GPU. */
export interface MemoryPreview extends PlannedMemory {
  /**
   * Null: `load` plans just what is above. Otherwise what it plans where it finds, by a trial that is made once in a browser,
   * that staging is faster (`LoadOptions.staging`).
   */
  readonly ifStaged: PlannedMemory | null;
  /** The smallest `gpuBudgetBytes` that runs, and the smallest expert budget in percent. */
  readonly smallest: { readonly totalBytes: number; readonly percent: number };
  /** Share of the needed experts that will be on the GPU, as published of other models; not measured on this one. */
  readonly expectedHitRate: HitRateRange;
  /** What the user should know, such as that nearly every token will wait. */
  readonly warning: string | null;
}

/** A model by its headers. */
export interface ModelReport {
  readonly modelId: string;
  readonly name: string;
  readonly architecture: string;
  /** Of all files: what a whole download takes. */
  readonly sourceBytes: number;
  /** Of what must be there before the first token: everything but experts. */
  readonly residentBytes: number;
  /** Tokens. */
  readonly contextLength: number;
  readonly layers: number;
  readonly moeLayers: number;
  readonly experts: number;
  readonly expertsPerToken: number;
  /** The largest expert of any layer. */
  readonly pageBytes: number;
  /** Of the experts' matrices. */
  readonly expertTypes: readonly WeightType[];
  readonly vocabSize: number;
  readonly hasChatTemplate: boolean;
  /** What was chosen where the source left a choice, and the like. */
  readonly warnings: readonly string[];
  /**
   * What loading it with these options would take, computed as `load` does.
   * @throws EngineError `BUDGET_TOO_SMALL` naming the smallest budget, `BAD_ARGUMENT`, `UNSUPPORTED`
   */
  planMemory(request?: MemoryPreviewRequest): MemoryPreview;
}

/** Limits that a device has unless more is asked for. */
const EVERY_WEBGPU: BindingLimits = { maxStorageBufferBindingSize: 128 << 20, maxBufferSize: 256 << 20 };

/**
 * Reads a model's headers: of a GGUF file or a safetensors folder, by URL, `hf:` name or from a file.
 * @throws EngineError `BAD_FILE`, `UNSUPPORTED`, `BAD_ARGUMENT`, `NETWORK`, `ABORTED`: what `load` would refuse is refused here.
 */
export async function inspectModel(source: ModelSource, options: InspectOptions = {}): Promise<ModelReport> {
  const { fetch, signal, quantize } = options;
  const warnings: string[] = [];
  const files = await openFiles(
    source,
    { fetch, signal },
    (progress) => progress.phase === 'warning' && warnings.push(progress.message),
  );
  const opened = await openModel(files, null, {
    onPlan: (plan) => void createTokenizer(plan.tokenizer),
    quantize,
    signal,
  });
  const { manifest } = opened.records;
  await opened.close();
  const { config, pageLayouts } = manifest;
  const { experts, expertsPerToken } = config.moe;
  const types = pageLayouts.flatMap(({ upProj, downProj }) => [upProj.type, downProj.type]);
  return {
    modelId: manifest.modelId,
    name: manifest.name,
    architecture: config.architecture,
    sourceBytes: manifest.sourceBytes,
    residentBytes: manifest.resident.reduce((sum, { matrix }) => sum + matrix.sizeBytes, 0),
    contextLength: config.contextLength,
    layers: config.layers,
    moeLayers: config.moeLayers.length,
    experts,
    expertsPerToken,
    pageBytes: Math.max(...pageLayouts.map((page) => page.pageBytes)),
    expertTypes: [...new Set(types)],
    vocabSize: config.vocabSize,
    hasChatTemplate: manifest.tokenizer.chatTemplate !== null,
    warnings,
    planMemory(asked = {}) {
      const { expertBudget, gpuBudgetBytes, contextLength, staging = 'auto', store = getDefaultStore() } = asked;
      const adapter = asked.defaultLimitsOnly ? null : asked.adapter;
      const limits = getMemoryLimits(adapter?.limits ?? EVERY_WEBGPU);
      const fixed = { contextLength, kvType: chooseKvType(adapter?.features.has('shader-f16') ?? false, asked.kvType) };
      const plan = (stagingPages: number): MemoryPlan =>
        planMemory(manifest, limits, { ...fixed, expertBudget, gpuBudgetBytes, stagingPages });
      const { pages, pagesIfFaster } = foreseeStagingPages(
        staging,
        isCopied(source, asked) ? foreseeStore(store) : null,
      );
      const planned = plan(pages);
      const ifStaged = plan(pagesIfFaster);
      const smallestPercent = getSmallestPercent(config.moe);
      const floor = planMemory(manifest, limits, { ...fixed, expertBudget: { percent: smallestPercent } });
      return {
        ...describePlan(planned),
        ifStaged: ifStaged.requests.staging.length > planned.requests.staging.length ? describePlan(ifStaged) : null,
        smallest: { totalBytes: floor.totalBytes, percent: smallestPercent },
        expectedHitRate: getExpectedHitRate(planned.slotsPerLayer / experts),
        warning: planned.warning,
      };
    },
  };
}

function describePlan({ slotsPerLayer, fixedBytes, totalBytes, requests }: MemoryPlan): PlannedMemory {
  return {
    slotsPerLayer,
    fixedBytes,
    stagingBytes: sumBytes(requests.staging),
    slotBytes: sumBytes(requests.slots),
    totalBytes,
  };
}
