// Products of Q4_0 blocks with activations in halves: codes are exact in f16, products are rounded to it, sums are f32.
// Stands on weights_q4_0 and stage_f16.

// Dot product of one block with 32 activations. `base`: first vec4 of the matrix; `blocks`: blocks of the whole matrix.
fn block_dot(base: u32, blocks: u32, block: u32, x: ptr<function, Staged>) -> f32 {
  let q = weights[base + block];
  var sum = add_halves(vec4<f16>(low_nibbles(q.x)) * (*x).quads[0]);
  sum += add_halves(vec4<f16>(low_nibbles(q.y)) * (*x).quads[1]);
  sum += add_halves(vec4<f16>(low_nibbles(q.z)) * (*x).quads[2]);
  sum += add_halves(vec4<f16>(low_nibbles(q.w)) * (*x).quads[3]);
  sum += add_halves(vec4<f16>(high_nibbles(q.x)) * (*x).quads[4]);
  sum += add_halves(vec4<f16>(high_nibbles(q.y)) * (*x).quads[5]);
  sum += add_halves(vec4<f16>(high_nibbles(q.z)) * (*x).quads[6]);
  sum += add_halves(vec4<f16>(high_nibbles(q.w)) * (*x).quads[7]);
  return sum * (block_scale(base, blocks, block) * (*x).scale);
}
