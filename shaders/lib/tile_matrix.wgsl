// Tiles by subgroup matrices: dequantised weights and activations rounded to halves, 32 columns at a time in workgroup memory;
// sums are f32 and take these blocks in rising order. A token's activations are scaled by a power of two that brings their
// largest below 2^15, so that none overflows; it is taken out again, exactly.
// Needs: a workgroup that is one subgroup; the sizes MATRIX_LANES, MATRIX_ROWS, MATRIX_DEPTH (program-source.ts); the adapter's
// matrices of [MATRIX_ROWS, MATRIX_DEPTH] times [MATRIX_DEPTH, 8] halves with sums in f32. MATRIX_ROWS divides 4 * MATRIX_LANES,
// MATRIX_DEPTH 32. Stands on open_block and open_quad (weights) and on get_columns (tile_plain).
const MATRIX_TOKENS = 8u;
const TILE_ROWS = 4u * MATRIX_LANES;
// Matrices that the rows of a tile are.
const BANDS = TILE_ROWS / MATRIX_ROWS;
// Halves from row to row: 32 and what keeps rows apart in banks of memory.
const STRIDE = 40u;
const MOST_HALF = 65504.0;

alias Left = subgroup_matrix_left<f16, MATRIX_DEPTH, MATRIX_ROWS>;
alias Right = subgroup_matrix_right<f16, MATRIX_TOKENS, MATRIX_DEPTH>;
// Of all rows of a tile, 8 tokens.
alias Sums = array<subgroup_matrix_result<f32, MATRIX_TOKENS, MATRIX_ROWS>, BANDS>;

var<workgroup> tile_weights: array<f16, TILE_ROWS * STRIDE>; // [rows, 32 columns]
var<workgroup> tile_x: array<f16, TILE_TOKENS * STRIDE>; // [tokens, 32 columns]
var<workgroup> tile_sums: array<f32, MATRIX_TOKENS * TILE_ROWS>; // [tokens, rows]
var<workgroup> tile_starts: array<u32, TILE_TOKENS>; // first quad in x
var<workgroup> tile_factors: array<f32, TILE_TOKENS>; // what a token's activations are multiplied by

// Where the activations of each token start, and what they are multiplied by.
fn begin_tile(lane: u32, starts: array<vec4<u32>, 4>, tokens: u32, quads: u32) {
  var all = starts;
  if (lane == 0u) {
    for (var token = 0u; token < tokens; token++) {
      tile_starts[token] = all[token / 4u][token % 4u];
    }
  }
  workgroupBarrier();
  for (var token = 0u; token < tokens; token++) {
    var largest = vec4<f32>();
    for (var quad = lane; quad < quads; quad += MATRIX_LANES) {
      largest = max(largest, abs(x[tile_starts[token] + quad]));
    }
    let most = subgroupMax(max(max(largest.x, largest.y), max(largest.z, largest.w)));
    if (lane == 0u) {
      // 2^(14 - e) of 2^e; no more than 2^126.
      let exponent = max(bitcast<u32>(most) >> 23u, 15u);
      tile_factors[token] = bitcast<f32>((268u - exponent) << 23u);
    }
  }
  workgroupBarrier();
}

// One block of all tokens. A barrier before and one behind.
fn stage_x(lane: u32, block: u32, tokens: u32) {
  for (var i = lane; i < tokens * 8u; i += MATRIX_LANES) {
    let token = i / 8u;
    let quad = i % 8u;
    let halves = vec4<f16>(x[tile_starts[token] + block * 8u + quad] * tile_factors[token]);
    for (var j = 0u; j < 4u; j++) {
      tile_x[token * STRIDE + quad * 4u + j] = halves[j];
    }
  }
}

// One block of all rows; rows that hang over repeat the last one. A barrier before and one behind.
fn stage_weights(lane: u32, base: u32, rows: u32, blocks: u32, group_row: u32, block: u32) {
  for (var row = lane; row < TILE_ROWS; row += MATRIX_LANES) {
    let own = min(group_row + row, rows - 1u) * blocks + block;
    let opened = open_block(base, rows * blocks, own);
    for (var quad = 0u; quad < 8u; quad++) {
      let values = open_quad(base, rows * blocks, own, quad, opened);
      let halves = vec4<f16>(clamp(values, vec4<f32>(-MOST_HALF), vec4<f32>(MOST_HALF)));
      for (var j = 0u; j < 4u; j++) {
        tile_weights[row * STRIDE + quad * 4u + j] = halves[j];
      }
    }
  }
}

fn add_products(sums: ptr<function, Sums>, first_token: u32) {
  for (var column = 0u; column < 32u; column += MATRIX_DEPTH) {
    let right = subgroupMatrixLoad<Right, col_major>(&tile_x, first_token * STRIDE + column, STRIDE);
    for (var band = 0u; band < BANDS; band++) {
      let left = subgroupMatrixLoad<Left, row_major>(&tile_weights, band * MATRIX_ROWS * STRIDE + column, STRIDE);
      (*sums)[band] = subgroupMatrixMultiplyAccumulate(left, right, (*sums)[band]);
    }
  }
}

// A lane's four rows of 8 tokens, four tokens each, by way of workgroup memory.
fn take_sums(lane: u32, sums: ptr<function, Sums>, first_token: u32) -> array<mat4x4<f32>, 2> {
  workgroupBarrier();
  for (var band = 0u; band < BANDS; band++) {
    subgroupMatrixStore<col_major>(&tile_sums, band * MATRIX_ROWS, (*sums)[band], TILE_ROWS);
  }
  workgroupBarrier();
  var taken: array<mat4x4<f32>, 2>;
  for (var token = 0u; token < MATRIX_TOKENS; token++) {
    let at = token * TILE_ROWS + lane * 4u;
    let own = vec4<f32>(tile_sums[at], tile_sums[at + 1u], tile_sums[at + 2u], tile_sums[at + 3u]);
    // A power of two: exact but for what no f32 holds.
    taken[token / 4u][token % 4u] = own / tile_factors[first_token + token];
  }
  return taken;
}

// As in tile.wgsl.
fn multiply_tile(
  base: u32, rows: u32, blocks: u32, first_row: u32,
  x0: vec4<u32>, x1: vec4<u32>, x2: vec4<u32>, x3: vec4<u32>, has_all: bool,
) -> TileSums {
  let lane = first_row / 4u % MATRIX_LANES;
  let group_row = first_row - lane * 4u;
  let tokens = select(MATRIX_TOKENS, TILE_TOKENS, has_all);
  begin_tile(lane, array<vec4<u32>, 4>(x0, x1, x2, x3), tokens, blocks * 8u);
  var low: Sums;
  var high: Sums;
  for (var block = 0u; block < blocks; block++) {
    stage_x(lane, block, tokens);
    stage_weights(lane, base, rows, blocks, group_row, block);
    workgroupBarrier();
    add_products(&low, 0u);
    if (has_all) {
      add_products(&high, MATRIX_TOKENS);
    }
    workgroupBarrier();
  }
  let first = take_sums(lane, &low, 0u);
  var second: array<mat4x4<f32>, 2>;
  if (has_all) {
    second = take_sums(lane, &high, MATRIX_TOKENS);
  }
  return TileSums(first[0], first[1], second[0], second[1]);
}

// As in tile.wgsl.
fn multiply_pair(
  base: u32, second_base: u32, rows: u32, blocks: u32, first_row: u32, x0: vec4<u32>, x1: vec4<u32>, has_second: bool,
) -> TileSums {
  let lane = first_row / 4u % MATRIX_LANES;
  let group_row = first_row - lane * 4u;
  begin_tile(lane, array<vec4<u32>, 4>(x0, x1, x0, x1), MATRIX_TOKENS, blocks * 8u);
  var sums: Sums;
  var second_sums: Sums;
  for (var block = 0u; block < blocks; block++) {
    stage_x(lane, block, MATRIX_TOKENS);
    stage_weights(lane, base, rows, blocks, group_row, block);
    workgroupBarrier();
    add_products(&sums, 0u);
    workgroupBarrier();
    if (has_second) {
      stage_weights(lane, second_base, rows, blocks, group_row, block);
      workgroupBarrier();
      add_products(&second_sums, 0u);
      workgroupBarrier();
    }
  }
  let first = take_sums(lane, &sums, 0u);
  var second: array<mat4x4<f32>, 2>;
  if (has_second) {
    second = take_sums(lane, &second_sums, 0u);
  }
  return TileSums(first[0], first[1], second[0], second[1]);
}
