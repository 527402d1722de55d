// For tiles, formats whose quads share nothing that is worth keeping: four consecutive weights, as block_quad.
fn open_block(base: u32, blocks: u32, block: u32) -> f32 {
  return 0.0;
}

fn open_quad(base: u32, blocks: u32, block: u32, quad: u32, unused: f32) -> vec4<f32> {
  return block_quad(base, blocks, block, quad);
}
