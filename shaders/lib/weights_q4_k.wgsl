// Q4_K: scale * nibble - minimum. Planes: nibbles; a header of one vec4 per 8 blocks.
struct Block {
  scale: f32,
  minimum: f32,
}

fn read_block(base: u32, blocks: u32, block: u32) -> Block {
  let s = k_scale_and_minimum(weights[base + blocks + (block >> 3u)], block);
  return Block(s.x, s.y);
}

fn decode(b: Block, codes: vec4<u32>, quad: u32) -> vec4<f32> {
  return b.scale * vec4<f32>(codes) - b.minimum;
}
