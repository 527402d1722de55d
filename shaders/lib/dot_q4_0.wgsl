// Products of Q4_0 blocks with f32 activations; stands on weights_q4_0 and stage_plain.

// Dot product of one block with 32 activations. `base`: first vec4 of the matrix; `blocks`: blocks of the whole matrix.
fn block_dot(base: u32, blocks: u32, block: u32, x: ptr<function, Staged>) -> f32 {
  let q = weights[base + block];
  var sum = dot(low_nibbles(q.x), (*x)[0]);
  sum += dot(low_nibbles(q.y), (*x)[1]);
  sum += dot(low_nibbles(q.z), (*x)[2]);
  sum += dot(low_nibbles(q.w), (*x)[3]);
  sum += dot(high_nibbles(q.x), (*x)[4]);
  sum += dot(high_nibbles(q.y), (*x)[5]);
  sum += dot(high_nibbles(q.z), (*x)[6]);
  sum += dot(high_nibbles(q.w), (*x)[7]);
  return sum * block_scale(base, blocks, block);
}
