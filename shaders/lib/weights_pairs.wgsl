// Reads weights whose first plane has 8 bytes of pairs of bits per block of 32: byte j has weights j, j + 8, j + 16 and
// j + 24. What else a block has, and what a pair means, says the type's own snippet:
// `Block`, `read_block(base, blocks, block) -> Block`, `decode(block: Block, pairs: vec4<u32>, quad) -> vec4<f32>`.
// `blocks` is a multiple of 8.

fn read_pairs(base: u32, block: u32) -> vec2<u32> {
  let q = weights[base + (block >> 1u)];
  return select(q.xy, q.zw, (block & 1u) == 1u);
}

// Dot product of one block with 32 activations. `base`: first vec4 of the matrix; `blocks`: blocks of the whole matrix.
fn block_dot(base: u32, blocks: u32, block: u32, x: ptr<function, array<vec4<f32>, 8>>) -> f32 {
  let q = read_pairs(base, block);
  let b = read_block(base, blocks, block);
  var sum = 0.0;
  for (var i = 0u; i < 4u; i++) {
    sum += dot(decode(b, four_codes(q.x, 2u * i, 2u), 2u * i), (*x)[2u * i]);
    sum += dot(decode(b, four_codes(q.y, 2u * i, 2u), 2u * i + 1u), (*x)[2u * i + 1u]);
  }
  return sum;
}

// Four consecutive weights: `quad` 0..7 of a block.
fn block_quad(base: u32, blocks: u32, block: u32, quad: u32) -> vec4<f32> {
  let word = read_pairs(base, block)[quad & 1u];
  return decode(read_block(base, blocks, block), four_codes(word, (quad >> 1u) * 2u, 2u), quad);
}
