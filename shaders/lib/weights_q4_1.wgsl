// Q4_1: scale * nibble + minimum. Planes: nibbles; scale and minimum, two halves per block.
struct Block {
  scale: f32,
  minimum: f32,
}

fn read_block(base: u32, blocks: u32, block: u32) -> Block {
  let halves = plane_two_halves(base + blocks, block);
  return Block(halves.x, halves.y);
}

fn decode(b: Block, codes: vec4<u32>, quad: u32) -> vec4<f32> {
  return b.scale * vec4<f32>(codes) + b.minimum;
}
