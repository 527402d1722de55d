// Q5_1: scale * (nibble + 16 * bit) + minimum. Planes: nibbles; high bits, a word per block; scale and minimum, two halves
// per block.
struct Block {
  scale: f32,
  minimum: f32,
  high: u32,
}

fn read_block(base: u32, blocks: u32, block: u32) -> Block {
  let high = base + blocks;
  let halves = plane_two_halves(high + plane_quads(blocks), block);
  return Block(halves.x, halves.y, plane_word(high, block));
}

fn decode(b: Block, codes: vec4<u32>, quad: u32) -> vec4<f32> {
  return b.scale * vec4<f32>(codes | (four_codes(b.high, quad, 1u) << vec4<u32>(4u))) + b.minimum;
}
