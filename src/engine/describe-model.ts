/** A loaded model as its caller is told of it. Owns nothing. */
import type { OpenModel } from '../store/open-model';
import { getToolFamily, listsTools } from '../text/tool-family';
import type { LoadedModel } from './engine';
import { getVariants, type Runtime } from './runtime';

/** The part of it that a new budget or another device changes. */
export function describeRuntime(
  runtime: Runtime,
): Pick<LoadedModel, 'slotsPerLayer' | 'plannedGpuBytes' | 'adapter' | 'variants'> {
  return {
    slotsPerLayer: runtime.plan.slotsPerLayer,
    plannedGpuBytes: runtime.plan.totalBytes,
    adapter: runtime.device.description,
    variants: getVariants(runtime),
  };
}

export function describeModel({ isNew, records }: OpenModel, runtime: Runtime): LoadedModel {
  const { manifest } = runtime;
  const { config } = manifest;
  const { chatTemplate } = manifest.tokenizer;
  return {
    modelId: manifest.modelId,
    name: manifest.name,
    architecture: config.architecture,
    contextLength: runtime.plan.state.contextLength,
    layers: config.layers,
    moeLayers: config.moeLayers.length,
    moeLayerIndices: config.moeLayers,
    experts: config.moe.experts,
    expertsPerToken: config.moe.expertsPerToken,
    hasChatTemplate: chatTemplate !== null,
    tools: { family: getToolFamily(chatTemplate), inTemplate: listsTools(chatTemplate) },
    ...describeRuntime(runtime),
    installed: isNew,
    quantization: manifest.quantization ?? null,
    isLocal: records.isLocal,
  };
}
