// Reads IEEE half weights from `weights`, row-major; a block is 32 consecutive weights of a row.
// unpack2x16float is core WGSL: no shader-f16 needed.

// Four consecutive weights: `quad` 0..7 of a block.
fn block_quad(base: u32, blocks: u32, block: u32, quad: u32) -> vec4<f32> {
  let words = weights[base + block * 4u + (quad >> 1u)];
  let pair = select(words.xy, words.zw, (quad & 1u) == 1u);
  return vec4<f32>(unpack2x16float(pair.x), unpack2x16float(pair.y));
}

// Dot product of one block with 32 activations. `base`: first vec4 of the matrix; `blocks`: blocks of the whole matrix.
fn block_dot(base: u32, blocks: u32, block: u32, x: ptr<function, array<vec4<f32>, 8>>) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < 4u; i++) {
    let w = weights[base + block * 4u + i];
    sum += dot(vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y)), (*x)[2u * i]);
    sum += dot(vec4<f32>(unpack2x16float(w.z), unpack2x16float(w.w)), (*x)[2u * i + 1u]);
  }
  return sum;
}
