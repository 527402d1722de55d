// Products of Q4_0 blocks with activations in bytes: integers throughout, scaled once. Stands on weights_q4_0 and stage_packed.

// Dot product of one block with 32 activations. `base`: first vec4 of the matrix; `blocks`: blocks of the whole matrix.
fn block_dot(base: u32, blocks: u32, block: u32, x: ptr<function, Staged>) -> f32 {
  let q = weights[base + block];
  let low = q & vec4<u32>(0x0f0f0f0fu);
  let high = (q >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu);
  // A weight is its nibble less 8.
  var sum = -8 * (*x).sum;
  sum += dot4I8Packed(low.x, (*x).words[0]) + dot4I8Packed(low.y, (*x).words[1]);
  sum += dot4I8Packed(low.z, (*x).words[2]) + dot4I8Packed(low.w, (*x).words[3]);
  sum += dot4I8Packed(high.x, (*x).words[4]) + dot4I8Packed(high.y, (*x).words[5]);
  sum += dot4I8Packed(high.z, (*x).words[6]) + dot4I8Packed(high.w, (*x).words[7]);
  return f32(sum) * (block_scale(base, blocks, block) * (*x).scale);
}
