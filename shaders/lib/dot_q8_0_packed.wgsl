// Products of Q8_0 blocks with activations in bytes: integers throughout, scaled once. Stands on weights_q8_0 and stage_packed.

// Dot product of one block with 32 activations. `base`: first vec4 of the matrix; `blocks`: blocks of the whole matrix.
fn block_dot(base: u32, blocks: u32, block: u32, x: ptr<function, Staged>) -> f32 {
  let a = weights[base + block * 2u];
  let b = weights[base + block * 2u + 1u];
  var sum = dot4I8Packed(a.x, (*x).words[0]) + dot4I8Packed(a.y, (*x).words[1]);
  sum += dot4I8Packed(a.z, (*x).words[2]) + dot4I8Packed(a.w, (*x).words[3]);
  sum += dot4I8Packed(b.x, (*x).words[4]) + dot4I8Packed(b.y, (*x).words[5]);
  sum += dot4I8Packed(b.z, (*x).words[6]) + dot4I8Packed(b.w, (*x).words[7]);
  return f32(sum) * (block_scale(base, blocks, block) * (*x).scale);
}
