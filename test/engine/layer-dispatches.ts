/**
 * The dispatches of a decoded token's layers: the kernels in their order, held against what ARCHITECTURE.md says of each kind of
 * layer. Owns that list; records, and runs nothing.
 */
import { expect } from 'vitest';
import type { Runtime } from '../../src/engine/runtime';
import { RecordingSubmission } from '../../tools/perf/dispatch-watch';

/** Kernels of each layer, in order. */
function listDispatches({ device, forward, manifest }: Runtime): string[][] {
  const { layers } = manifest.config;
  const record = (layer: number): string[] => {
    const submission = new RecordingSubmission(device);
    if (layer < layers) forward.encodeLayers(submission, 'rows', { layer, stage: 'attention' }, layers, 1);
    return submission.dispatches.map(({ kernel }) => kernel);
  };
  return Array.from({ length: layers }, (_, layer) => record(layer).slice(0, -record(layer + 1).length || undefined));
}

/** Checks every layer, and that one with neither latents nor experts beside the chosen ones has at most eight. */
export function checkDispatches(runtime: Runtime): void {
  const { config } = runtime.manifest;
  for (const [layer, kernels] of listDispatches(runtime).entries()) {
    const expected = listExpected(runtime, layer);
    expect(kernels, `layer ${layer}`).toEqual(expected);
    const { qkv = [], latent, mlp } = runtime.plan.weights.layers[layer] ?? {};
    const isPlain =
      qkv.length <= 1 && !latent && !mlp && !config.moe.hasFactor && config.moe.router.stateWidth === null;
    if (isPlain && runtime.pool.getParts(0).length === 1) expect(kernels.length).toBeLessThanOrEqual(8);
  }
}

function listExpected({ manifest, plan, pool }: Runtime, layer: number): string[] {
  const { mixers, moeLayers, moe } = manifest.config;
  const weights = plan.weights.layers[layer];
  if (!weights) return [];
  const projections = (weights.qkv ?? []).map(() => 'matvec');
  const mixer = mixers[layer];
  const mix =
    mixer === 'none'
      ? []
      : mixer === 'convolution'
        ? ['short_conv', 'matvec']
        : weights.latent
          ? [
              ...(weights.latent.queryDown ? ['matvec', 'norm', 'matvec'] : []),
              ...['head_matvec', 'latent_rope', 'attention', 'head_matvec', 'matvec'],
            ]
          : ['qk_norm_rope', 'attention', 'matvec'];
  const factor = weights.mlp?.factor ? ['mlp_gate_up'] : [];
  const mlp = weights.mlp ? ['mlp_gate_up', ...factor, 'matvec'] : [];
  const place = moeLayers.indexOf(layer);
  if (place < 0) return [...projections, ...mix, 'norm', ...mlp, 'norm'];
  const experts = ['expert_gate_up', ...(moe.hasFactor ? ['expert_gate_up'] : []), 'expert_down'];
  const parts = pool.getParts(Math.floor(place / moe.layersPerGroup));
  return [
    ...projections,
    ...mix,
    ...(moe.router.stateWidth === null ? [] : ['router_state']),
    'router_topk',
    ...mlp,
    ...parts.flatMap(() => experts),
    'combine_norm',
  ];
}
