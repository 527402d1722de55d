/** CPU reference of shaders/adjust_logits.wgsl, in f32 like the kernel: one addition per listed id. */

/** logits [vocab]; mask: bit i of word w allows id 32 w + i. */
export function adjustLogits(
  logits: Float32Array,
  deltas: readonly (readonly [tokenId: number, delta: number])[],
  mask: Uint32Array | null,
): Float32Array {
  const adjusted = logits.slice();
  for (const [id, delta] of deltas) adjusted[id]! += Math.fround(delta);
  if (mask) {
    for (let id = 0; id < logits.length; id++) {
      if (((mask[id >> 5]! >>> (id & 31)) & 1) === 0) adjusted[id] = -1e30;
    }
  }
  return adjusted;
}
