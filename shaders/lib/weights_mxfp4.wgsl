// MXFP4: 2^(exponent - 127) * E2M1 float. Planes: nibbles; exponent, a byte per block.

// Twice the values of a four-bit float.
const TABLE = array<f32, 16>(
  0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0,
);

struct Block {
  half_scale: f32,
}

fn read_block(base: u32, blocks: u32, block: u32) -> Block {
  let exponent = (plane_word(base + blocks, block >> 2u) >> ((block & 3u) * 8u)) & 0xffu;
  // 2^(exponent - 128), which is subnormal for 0 and 1.
  let bits = select((exponent - 1u) << 23u, 0x200000u << exponent, exponent < 2u);
  return Block(bitcast<f32>(bits));
}

fn decode(b: Block, codes: vec4<u32>, quad: u32) -> vec4<f32> {
  return b.half_scale * vec4<f32>(TABLE[codes.x], TABLE[codes.y], TABLE[codes.z], TABLE[codes.w]);
}
