// Products of Q8_0 blocks with activations in halves: codes are exact in f16, products are rounded to it, sums are f32.
// Stands on weights_q8_0 and stage_f16.

// Dot product of one block with 32 activations. `base`: first vec4 of the matrix; `blocks`: blocks of the whole matrix.
fn block_dot(base: u32, blocks: u32, block: u32, x: ptr<function, Staged>) -> f32 {
  let a = weights[base + block * 2u];
  let b = weights[base + block * 2u + 1u];
  var sum = add_halves(vec4<f16>(signed_bytes(a.x)) * (*x).quads[0]);
  sum += add_halves(vec4<f16>(signed_bytes(a.y)) * (*x).quads[1]);
  sum += add_halves(vec4<f16>(signed_bytes(a.z)) * (*x).quads[2]);
  sum += add_halves(vec4<f16>(signed_bytes(a.w)) * (*x).quads[3]);
  sum += add_halves(vec4<f16>(signed_bytes(b.x)) * (*x).quads[4]);
  sum += add_halves(vec4<f16>(signed_bytes(b.y)) * (*x).quads[5]);
  sum += add_halves(vec4<f16>(signed_bytes(b.z)) * (*x).quads[6]);
  sum += add_halves(vec4<f16>(signed_bytes(b.w)) * (*x).quads[7]);
  return sum * (block_scale(base, blocks, block) * (*x).scale);
}
