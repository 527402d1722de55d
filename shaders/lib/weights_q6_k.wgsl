// Q6_K: d * scale * (nibble + 16 * pair - 32). Planes: nibbles; high pairs of bits, two words per block; scales, a signed
// byte per 16 weights; d, a half per 8 blocks.
struct Block {
  scales: vec2<f32>,
  high: vec2<u32>,
}

fn read_block(base: u32, blocks: u32, block: u32) -> Block {
  let high = base + blocks;
  let scales = high + (blocks >> 1u);
  let d = plane_half(scales + (blocks >> 3u), block >> 3u);
  let bytes = vec2<i32>(plane_two_bytes(scales, block) << vec2<u32>(24u)) >> vec2<u32>(24u);
  let pairs = weights[high + (block >> 1u)];
  return Block(d * vec2<f32>(bytes), select(pairs.xy, pairs.zw, (block & 1u) == 1u));
}

fn decode(b: Block, codes: vec4<u32>, quad: u32) -> vec4<f32> {
  let high = four_codes(b.high[quad & 1u], (quad >> 1u) * 2u, 2u);
  return b.scales[quad >> 2u] * (vec4<f32>(codes | (high << vec4<u32>(4u))) - 32.0);
}
