// Reads weights whose first plane has 16 bytes of nibbles per block of 32: byte j has weight j in its low nibble, weight
// j + 16 in its high one. What else a block has, and what a nibble means, says the type's own snippet:
// `Block`, `read_block(base, blocks, block) -> Block`, `decode(block: Block, nibbles: vec4<u32>, quad) -> vec4<f32>`.

// Dot product of one block with 32 activations. `base`: first vec4 of the matrix; `blocks`: blocks of the whole matrix.
fn block_dot(base: u32, blocks: u32, block: u32, x: ptr<function, array<vec4<f32>, 8>>) -> f32 {
  let q = weights[base + block];
  let b = read_block(base, blocks, block);
  var sum = dot(decode(b, four_codes(q.x, 0u, 4u), 0u), (*x)[0]);
  sum += dot(decode(b, four_codes(q.y, 0u, 4u), 1u), (*x)[1]);
  sum += dot(decode(b, four_codes(q.z, 0u, 4u), 2u), (*x)[2]);
  sum += dot(decode(b, four_codes(q.w, 0u, 4u), 3u), (*x)[3]);
  sum += dot(decode(b, four_codes(q.x, 4u, 4u), 4u), (*x)[4]);
  sum += dot(decode(b, four_codes(q.y, 4u, 4u), 5u), (*x)[5]);
  sum += dot(decode(b, four_codes(q.z, 4u, 4u), 6u), (*x)[6]);
  sum += dot(decode(b, four_codes(q.w, 4u, 4u), 7u), (*x)[7]);
  return sum;
}

// Four consecutive weights: `quad` 0..7 of a block.
fn block_quad(base: u32, blocks: u32, block: u32, quad: u32) -> vec4<f32> {
  let word = weights[base + block][quad & 3u];
  return decode(read_block(base, blocks, block), four_codes(word, (quad >> 2u) * 4u, 4u), quad);
}
