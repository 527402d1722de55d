// Reads Q8_0 weights in kernel layout from `weights`: 32 signed bytes per block of 32, then one f16 scale per block.

// The scale of one block; scales follow the data, eight to a vec4.
fn block_scale(base: u32, blocks: u32, block: u32) -> f32 {
  let word = weights[base + blocks * 2u + (block >> 3u)][(block >> 1u) & 3u];
  let scales = unpack2x16float(word);
  return select(scales.x, scales.y, (block & 1u) == 1u);
}

// The bytes of a word, signed. A byte stays where it is and a power of two takes its place out again, exactly: shifts by lane
// are dear on software adapters.
fn signed_bytes(word: u32) -> vec4<f32> {
  let bytes = vec4<f32>(vec4<u32>(word ^ 0x80808080u) & vec4<u32>(0xffu, 0xff00u, 0xff0000u, 0xff000000u));
  return bytes * vec4<f32>(1.0, 0x1p-8, 0x1p-16, 0x1p-24) - 128.0;
}

// For tiles: what a block's quads share, read once.
fn open_block(base: u32, blocks: u32, block: u32) -> f32 {
  return block_scale(base, blocks, block);
}

fn open_quad(base: u32, blocks: u32, block: u32, quad: u32, scale: f32) -> vec4<f32> {
  return signed_bytes(weights[base + block * 2u + (quad >> 2u)][quad & 3u]) * scale;
}

// Four consecutive weights: `quad` 0..7 of a block.
fn block_quad(base: u32, blocks: u32, block: u32, quad: u32) -> vec4<f32> {
  return open_quad(base, blocks, block, quad, block_scale(base, blocks, block));
}
