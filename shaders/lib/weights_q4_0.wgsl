// Reads Q4_0 weights in kernel layout from `weights`: 16 bytes of nibbles per block of 32, then one f16 scale per block.
// Byte j of a block: low nibble is weight j, high nibble weight j + 16; value = (nibble - 8) * scale.

// The scale of one block; scales follow the data, eight to a vec4.
fn block_scale(base: u32, blocks: u32, block: u32) -> f32 {
  let word = weights[base + blocks + (block >> 3u)][(block >> 1u) & 3u];
  return unpack2x16float(word)[block & 1u];
}

fn nibbles(word: u32) -> vec4<f32> {
  return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xfu)) - 8.0;
}

// Dot product of one block with 32 activations. `base`: first vec4 of the matrix; `blocks`: blocks of the whole matrix.
fn block_dot(base: u32, blocks: u32, block: u32, x: ptr<function, array<vec4<f32>, 8>>) -> f32 {
  let q = weights[base + block];
  let h = q >> vec4<u32>(4u);
  var sum = dot(nibbles(q.x), (*x)[0]);
  sum += dot(nibbles(q.y), (*x)[1]);
  sum += dot(nibbles(q.z), (*x)[2]);
  sum += dot(nibbles(q.w), (*x)[3]);
  sum += dot(nibbles(h.x), (*x)[4]);
  sum += dot(nibbles(h.y), (*x)[5]);
  sum += dot(nibbles(h.z), (*x)[6]);
  sum += dot(nibbles(h.w), (*x)[7]);
  return sum * block_scale(base, blocks, block);
}

// Four consecutive weights: `quad` 0..7 of a block.
fn block_quad(base: u32, blocks: u32, block: u32, quad: u32) -> vec4<f32> {
  let q = weights[base + block][quad & 3u] >> ((quad >> 2u) * 4u);
  return nibbles(q) * block_scale(base, blocks, block);
}

// For tiles: what a block's quads share, read once; then four consecutive weights, exactly as block_quad. A nibble stays where
// it is in the word and the scale takes the power of two out again: shifts by lane are dear on software adapters.
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
