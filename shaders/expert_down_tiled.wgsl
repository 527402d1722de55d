// outputs[row, rank, :] = D act[row, rank, :] + d for many rows, by experts: a weight is dequantised once for 16 choices
//
// Outputs stay apart by rank: combine_norm sums them in router order, whatever order they were made in.
// Bindings: weights: the slots of one layer, each a page [gate | up | down | biases] quantised in place;
// x: act [rows, TOP_K, WIDTH]; order, tiles: what route_order wrote; page_table [MoE layers, EXPERTS]; outputs [rows, TOP_K, HIDDEN] f32.
// Grid: (ceil(HIDDEN / (4 * WORKGROUP_SIZE)), tiles). An expert without a slot, or with one in another buffer, is left out.
// Tiles of lib/tile.wgsl: a choice's result depends on its input and its expert alone. Never runs behind a fault.
// Assumes WIDTH % 32 == 0, HIDDEN % 4 == 0.
override WORKGROUP_SIZE: u32;
override EXPERTS: u32;
override HIDDEN: u32;
override WIDTH: u32;
// 1: experts have biases.
override BIAS: u32;

@group(0) @binding(0) var<uniform> pool: Pool;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> order: array<u32>;
@group(0) @binding(4) var<storage, read> tiles: array<Tile>;
@group(0) @binding(5) var<storage, read> page_table: array<u32>;
@group(0) @binding(6) var<storage, read_write> outputs: array<vec4<f32>>;

// First quad in x of four places of the order.
fn locate(places: vec4<u32>) -> vec4<u32> {
  return vec4<u32>(order[places.x], order[places.y], order[places.z], order[places.w]) * (WIDTH / 4u);
}

// Result of one place of the order, four of the hidden size.
fn store(page: u32, first_row: u32, place: u32, end: u32, sum: vec4<f32>) {
  if (place < end) {
    var value = sum;
    if (BIAS == 1u) {
      value += bitcast<vec4<f32>>(weights[page + pool.down_bias + first_row / 4u]);
    }
    outputs[(order[place] * HIDDEN + first_row) / 4u] = value;
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn expert_down_tiled(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let tile = tiles[group.y];
  if (tile.count == 0u) {
    return;
  }
  let slot = page_table[pool.moe_layer * EXPERTS + tile.expert] - pool.first_slot; // ABSENT stays out of range
  if (slot >= pool.slots) {
    return;
  }
  let page = slot * pool.page_quads;
  let first_row = (group.x * WORKGROUP_SIZE + lane) * 4u;
  // Places that hang over repeat the last and are not stored.
  let end = tile.first + tile.count;
  let last = vec4<u32>(end - 1u);
  let places = tile.first + get_columns(lane);
  var sums = multiply_tile(
    page + pool.down_base, HIDDEN, WIDTH / 32u, first_row,
    locate(min(places, last)), locate(min(places + 4u, last)), locate(min(places + 8u, last)), locate(min(places + 12u, last)),
    tile.count > 8u,
  );
  if (first_row < HIDDEN) {
    // One sum after the other in the first place, so that one copy of what stores it is compiled.
    for (var i = 0u; i < 16u; i += 4u) {
      for (var j = 0u; j < 4u; j++) {
        store(page, first_row, places[j] + i, end, sums.a[j]);
      }
      sums.a = sums.b;
      sums.b = sums.c;
      sums.c = sums.d;
    }
  }
}
