// Reads f32 weights from `weights`, row-major; a block is 32 consecutive weights of a row.

// Four consecutive weights: `quad` 0..7 of a block.
fn block_quad(base: u32, blocks: u32, block: u32, quad: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(weights[base + block * 8u + quad]);
}

// Dot product of one block with 32 activations. `base`: first vec4 of the matrix; `blocks`: blocks of the whole matrix.
fn block_dot(base: u32, blocks: u32, block: u32, x: ptr<function, array<vec4<f32>, 8>>) -> f32 {
  var sum = 0.0;
  for (var quad = 0u; quad < 8u; quad++) {
    sum += dot(block_quad(base, blocks, block, quad), (*x)[quad]);
  }
  return sum;
}
