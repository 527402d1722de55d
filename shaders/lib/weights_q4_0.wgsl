// Reads Q4_0 weights in kernel layout from `weights`: 16 bytes of nibbles per block of 32, then one f16 scale per block.
// Byte j of a block: low nibble is weight j, high nibble weight j + 16; value = (nibble - 8) * scale.

// The scale of one block; scales follow the data, eight to a vec4.
fn block_scale(base: u32, blocks: u32, block: u32) -> f32 {
  let word = weights[base + blocks + (block >> 3u)][(block >> 1u) & 3u];
  let scales = unpack2x16float(word);
  return select(scales.x, scales.y, (block & 1u) == 1u);
}

// Four weights of a word before the scale: its low or its high nibbles. A nibble stays where it is and a power of two takes its
// place out again, exactly: shifts by lane are dear on software adapters.
fn low_nibbles(word: u32) -> vec4<f32> {
  return vec4<f32>(vec4<u32>(word) & vec4<u32>(0xfu, 0xf00u, 0xf0000u, 0xf000000u)) * vec4<f32>(1.0, 0x1p-8, 0x1p-16, 0x1p-24) - 8.0;
}

fn high_nibbles(word: u32) -> vec4<f32> {
  return vec4<f32>(vec4<u32>(word) & vec4<u32>(0xf0u, 0xf000u, 0xf00000u, 0xf0000000u)) * vec4<f32>(0x1p-4, 0x1p-12, 0x1p-20, 0x1p-28) - 8.0;
}

// For tiles: what a block's quads share, read once.
fn open_block(base: u32, blocks: u32, block: u32) -> f32 {
  return block_scale(base, blocks, block);
}

fn open_quad(base: u32, blocks: u32, block: u32, quad: u32, scale: f32) -> vec4<f32> {
  let word = weights[base + block][quad & 3u];
  let is_high = quad > 3u;
  let mask = select(vec4<u32>(0xfu, 0xf00u, 0xf0000u, 0xf000000u), vec4<u32>(0xf0u, 0xf000u, 0xf00000u, 0xf0000000u), is_high);
  let factor = vec4<f32>(1.0, 0x1p-8, 0x1p-16, 0x1p-24) * (scale * select(1.0, 0x1p-4, is_high));
  return vec4<f32>(vec4<u32>(word) & mask) * factor - 8.0 * scale;
}

// Four consecutive weights: `quad` 0..7 of a block.
fn block_quad(base: u32, blocks: u32, block: u32, quad: u32) -> vec4<f32> {
  return open_quad(base, blocks, block, quad, block_scale(base, blocks, block));
}
