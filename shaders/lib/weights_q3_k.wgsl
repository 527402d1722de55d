// Q3_K: d * (scale - 32) * (pair + 4 * bit - 4). Planes: pairs of bits; high bits, a word per block; scales, a byte per
// 16 weights; d, a half per 8 blocks.
struct Block {
  scales: vec2<f32>,
  high: u32,
}

fn read_block(base: u32, blocks: u32, block: u32) -> Block {
  let high = base + (blocks >> 1u);
  let scales = high + (blocks >> 2u);
  let d = plane_half(scales + (blocks >> 3u), block >> 3u);
  return Block(d * (vec2<f32>(plane_two_bytes(scales, block)) - 32.0), plane_word(high, block));
}

fn decode(b: Block, codes: vec4<u32>, quad: u32) -> vec4<f32> {
  return b.scales[quad >> 2u] * (vec4<f32>(codes | (four_codes(b.high, quad, 1u) << vec4<u32>(2u))) - 4.0);
}
