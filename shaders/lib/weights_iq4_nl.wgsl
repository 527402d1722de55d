// IQ4_NL: scale * TABLE[nibble]. Planes: nibbles; scale, a half per block.
const TABLE = array<f32, 16>(
  -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
);

struct Block {
  scale: f32,
}

fn read_block(base: u32, blocks: u32, block: u32) -> Block {
  return Block(plane_half(base + blocks, block));
}

fn decode(b: Block, codes: vec4<u32>, quad: u32) -> vec4<f32> {
  return b.scale * vec4<f32>(TABLE[codes.x], TABLE[codes.y], TABLE[codes.z], TABLE[codes.w]);
}
