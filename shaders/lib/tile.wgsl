// A tile is four matrix rows of every lane times up to 16 tokens, in registers: a weight is dequantised once for all of them.
// A sum takes its columns in rising order, whatever the tile or the workgroup: a token's result depends on that token alone.
// Stands on open_block and open_quad (weights), on multiply_add, and on get_columns and read_four (tile_quad or tile_plain).

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

// Blocks of a lane's four matrix rows; rows that hang over repeat the last one.
fn get_row_blocks(first_row: u32, rows: u32, blocks: u32) -> vec4<u32> {
  return min(vec4<u32>(first_row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(rows - 1u)) * blocks;
}

// Four matrix rows times 16 tokens, whose activations start at x0 to x3; the last 8 only where has_all, the same in all lanes.
fn multiply_tile(
  base: u32, rows: u32, blocks: u32, first_row: u32,
  x0: vec4<u32>, x1: vec4<u32>, x2: vec4<u32>, x3: vec4<u32>, has_all: bool,
) -> TileSums {
  let r = get_row_blocks(first_row, rows, blocks);
  var sums = TileSums();
  for (var block = 0u; block < blocks; block++) {
    let opened = open_blocks(base, rows * blocks, r + block);
    for (var quad = 0u; quad < 8u; quad++) {
      let w = open_quads(base, rows * blocks, r + block, quad, opened);
      let at = block * 8u + quad;
      sums.a = multiply_add(sums.a, w, read_four(x0, at));
      sums.b = multiply_add(sums.b, w, read_four(x1, at));
      if (has_all) {
        sums.c = multiply_add(sums.c, w, read_four(x2, at));
        sums.d = multiply_add(sums.d, w, read_four(x3, at));
      }
    }
  }
  return sums;
}

// Four rows of each of two matrices times 8 tokens: a and b are of the first, c and d of the second, 0 unless has_second.
fn multiply_pair(
  base: u32, second_base: u32, rows: u32, blocks: u32, first_row: u32, x0: vec4<u32>, x1: vec4<u32>, has_second: bool,
) -> TileSums {
  let r = get_row_blocks(first_row, rows, blocks);
  var sums = TileSums();
  for (var block = 0u; block < blocks; block++) {
    let firsts = open_blocks(base, rows * blocks, r + block);
    let seconds = open_blocks(second_base, rows * blocks, r + block);
    for (var quad = 0u; quad < 8u; quad++) {
      let v0 = read_four(x0, block * 8u + quad);
      let v1 = read_four(x1, block * 8u + quad);
      let w = open_quads(base, rows * blocks, r + block, quad, firsts);
      sums.a = multiply_add(sums.a, w, v0);
      sums.b = multiply_add(sums.b, w, v1);
      if (has_second) {
        let second = open_quads(second_base, rows * blocks, r + block, quad, seconds);
        sums.c = multiply_add(sums.c, second, v0);
        sums.d = multiply_add(sums.d, second, v1);
      }
    }
  }
  return sums;
}
