/**
 * What a model is and what it would take, from the headers of its files alone: nothing is installed, no GPU is asked for.
 * Owns the report; memory-plan.ts plans.
 */
import type { QuantizedType } from '../checkpoint/formats/quantize';
import type { WeightType } from '../checkpoint/model-config';
import { roundUp } from '../gpu/memory';
import { getExpectedHitRate, type HitRateRange } from '../routing/expected-hit-rate';
import { openModel } from '../store/open-model';
import { createTokenizer } from '../text/tokenizer';
import type { ModelSource } from './engine';
import { getSmallestPercent, type MemoryRequest, planMemory } from './memory-plan';
import { openFiles } from './open-files';

/** How headers are read. */
export interface InspectOptions {
  /** Of a folder with safetensors files: as in `LoadOptions.quantize`. */
  readonly quantize?: QuantizedType;
  /** Default: the page's own. */
  readonly fetch?: typeof globalThis.fetch;
  readonly signal?: AbortSignal;
}

/** As in `LoadOptions`, and what the adapter can bind. */
export interface MemoryPreviewRequest extends MemoryRequest {
  /** The adapter's `maxStorageBufferBindingSize`. Default: 128 MiB, what every WebGPU has. */
  readonly bindingBytes?: number;
}

/** What loading a model would take on the GPU, in bytes. */
export interface MemoryPreview {
  readonly slotsPerLayer: number;
  /** On the GPU whatever the budget: weights that are no experts, KV cache, scratch. */
  readonly fixedBytes: number;
  /** All slots of all layers. */
  readonly slotBytes: number;
  readonly totalBytes: number;
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

const DEFAULT_BINDING_BYTES = 128 << 20;

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
    planMemory({ bindingBytes = DEFAULT_BINDING_BYTES, ...request } = {}) {
      const plan = planMemory(manifest, { bindingBytes }, request);
      const smallestPercent = getSmallestPercent(config.moe);
      const floor = planMemory(
        manifest,
        { bindingBytes },
        { contextLength: request.contextLength, kvType: request.kvType, expertBudget: { percent: smallestPercent } },
      );
      return {
        slotsPerLayer: plan.slotsPerLayer,
        fixedBytes: plan.fixedBytes,
        slotBytes: plan.requests.slots.reduce((sum, { sizeBytes }) => sum + roundUp(sizeBytes), 0),
        totalBytes: plan.totalBytes,
        smallest: { totalBytes: floor.totalBytes, percent: smallestPercent },
        expectedHitRate: getExpectedHitRate(plan.slotsPerLayer / experts),
        warning: plan.warning,
      };
    },
  };
}
