// Products of Q8_0 blocks with f32 activations; stands on weights_q8_0 and stage_plain.

// Dot product of one block with 32 activations. `base`: first vec4 of the matrix; `blocks`: blocks of the whole matrix.
fn block_dot(base: u32, blocks: u32, block: u32, x: ptr<function, Staged>) -> f32 {
  let a = weights[base + block * 2u];
  let b = weights[base + block * 2u + 1u];
  var sum = dot(signed_bytes(a.x), (*x)[0]);
  sum += dot(signed_bytes(a.y), (*x)[1]);
  sum += dot(signed_bytes(a.z), (*x)[2]);
  sum += dot(signed_bytes(a.w), (*x)[3]);
  sum += dot(signed_bytes(b.x), (*x)[4]);
  sum += dot(signed_bytes(b.y), (*x)[5]);
  sum += dot(signed_bytes(b.z), (*x)[6]);
  sum += dot(signed_bytes(b.w), (*x)[7]);
  return sum * block_scale(base, blocks, block);
}
