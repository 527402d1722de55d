// Reads bfloat16 weights from `weights`, row-major; a block is 32 consecutive weights of a row.
// A bfloat16 is the upper half of an f32.

fn two_bf16(word: u32) -> vec2<f32> {
  return bitcast<vec2<f32>>(vec2<u32>(word << 16u, word & 0xffff0000u));
}

// Four consecutive weights: `quad` 0..7 of a block.
fn block_quad(base: u32, blocks: u32, block: u32, quad: u32) -> vec4<f32> {
  let words = weights[base + block * 4u + (quad >> 1u)];
  let pair = select(words.xy, words.zw, (quad & 1u) == 1u);
  return vec4<f32>(two_bf16(pair.x), two_bf16(pair.y));
}

// Dot product of one block with 32 activations. `base`: first vec4 of the matrix; `blocks`: blocks of the whole matrix.
fn block_dot(base: u32, blocks: u32, block: u32, x: ptr<function, array<vec4<f32>, 8>>) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < 4u; i++) {
    let w = weights[base + block * 4u + i];
    sum += dot(vec4<f32>(two_bf16(w.x), two_bf16(w.y)), (*x)[2u * i]);
    sum += dot(vec4<f32>(two_bf16(w.z), two_bf16(w.w)), (*x)[2u * i + 1u]);
  }
  return sum;
}
