// A tile is four matrix rows of every lane times up to 16 tokens, in registers: a weight is dequantised once for all of them.
// A sum takes its columns in rising order, whatever the tile or the workgroup: a token's result depends on that token alone.
// Stands on open_block and open_quad (weights) and on get_columns and read_four (tile_quad or tile_plain).

// What four blocks, one of each matrix row, keep for their quads.
fn open_blocks(base: u32, blocks: u32, block: vec4<u32>) -> vec4<f32> {
  return vec4<f32>(
    open_block(base, blocks, block.x),
    open_block(base, blocks, block.y),
    open_block(base, blocks, block.z),
    open_block(base, blocks, block.w),
  );
}

// Four matrix columns of four matrix rows; columns are columns.
fn open_quads(base: u32, blocks: u32, block: vec4<u32>, quad: u32, opened: vec4<f32>) -> mat4x4<f32> {
  return transpose(mat4x4<f32>(
    open_quad(base, blocks, block.x, quad, opened.x),
    open_quad(base, blocks, block.y, quad, opened.y),
    open_quad(base, blocks, block.z, quad, opened.z),
    open_quad(base, blocks, block.w, quad, opened.w),
  ));
}
