// Q5_K: scale * (nibble + 16 * bit) - minimum. Planes: nibbles; high bits, a word per block; a header of one vec4 per
// 8 blocks.
struct Block {
  scale: f32,
  minimum: f32,
  high: u32,
}

fn read_block(base: u32, blocks: u32, block: u32) -> Block {
  let high = base + blocks;
  let s = k_scale_and_minimum(weights[high + (blocks >> 2u) + (block >> 3u)], block);
  return Block(s.x, s.y, plane_word(high, block));
}

fn decode(b: Block, codes: vec4<u32>, quad: u32) -> vec4<f32> {
  return b.scale * vec4<f32>(codes | (four_codes(b.high, quad, 1u) << vec4<u32>(4u))) - b.minimum;
}
