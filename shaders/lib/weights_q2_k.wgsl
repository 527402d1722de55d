// Q2_K: d * scale * pair - dmin * minimum. Planes: pairs of bits; scale and minimum, a nibble each per 16 weights; d and
// dmin, two halves per 8 blocks.
struct Block {
  scales: vec2<f32>,
  minima: vec2<f32>,
}

fn read_block(base: u32, blocks: u32, block: u32) -> Block {
  let scales = base + (blocks >> 1u);
  let d = plane_two_halves(scales + (blocks >> 3u), block >> 3u);
  let bytes = plane_two_bytes(scales, block);
  return Block(d.x * vec2<f32>(bytes & vec2<u32>(15u)), d.y * vec2<f32>(bytes >> vec2<u32>(4u)));
}

fn decode(b: Block, codes: vec4<u32>, quad: u32) -> vec4<f32> {
  return b.scales[quad >> 2u] * vec4<f32>(codes) - b.minima[quad >> 2u];
}
