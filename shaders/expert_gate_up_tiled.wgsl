// act[row, rank, :] = activate(G x[row] + g, U x[row] + u) for many rows, by experts: a weight is dequantised once for 8 choices.
// activate: lib/activation.wgsl. Without GATED there is one matrix, silu(U x[row]), whose place is the gate's.
// FACTOR: act[row, rank, :] *= F x[row], behind the product above; F in the gate's place.
//
// Bindings: weights: the slots of one layer, each a page [gate | up | down | biases] quantised in place; x [rows, HIDDEN] f32;
// order, tiles: what route_order wrote; page_table [MoE layers, EXPERTS]; act [rows, TOP_K, WIDTH] f32.
// Grid: (ceil(WIDTH / (4 * WORKGROUP_SIZE)), tiles, halves of a tile). An expert without a slot, or with one in another
// buffer, is left out. Tiles of lib/tile.wgsl: a choice's result depends on its row and its expert alone. Never runs behind a
// fault. Assumes HIDDEN % 32 == 0, WIDTH % 4 == 0.
override WORKGROUP_SIZE: u32;
override EXPERTS: u32;
override TOP_K: u32;
override HIDDEN: u32;
override WIDTH: u32;
// 1: experts have biases.
override BIAS: u32;
// 0: experts have no gate.
override GATED: u32;
// 1: multiplies what is there.
override FACTOR: u32;

@group(0) @binding(0) var<uniform> pool: Pool;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> order: array<u32>;
@group(0) @binding(4) var<storage, read> tiles: array<Tile>;
@group(0) @binding(5) var<storage, read> page_table: array<u32>;
@group(0) @binding(6) var<storage, read_write> act: array<vec4<f32>>;

// First quad in x of four places of the order.
fn locate(places: vec4<u32>) -> vec4<u32> {
  return vec4<u32>(order[places.x], order[places.y], order[places.z], order[places.w]) / TOP_K * (HIDDEN / 4u);
}

// Result of one place of the order, four of the width.
fn store(page: u32, first_row: u32, place: u32, end: u32, gate: vec4<f32>, up: vec4<f32>) {
  if (place < end) {
    var g = gate;
    var u = select(vec4<f32>(1.0), up, GATED == 1u);
    if (BIAS == 1u) {
      g += bitcast<vec4<f32>>(weights[page + pool.gate_bias + first_row / 4u]);
      u += bitcast<vec4<f32>>(weights[page + pool.up_bias + first_row / 4u]);
    }
    let at = (order[place] * WIDTH + first_row) / 4u;
    if (FACTOR == 1u) {
      act[at] *= g;
    } else {
      act[at] = activate(g, u);
    }
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn expert_gate_up_tiled(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let tile = tiles[group.y];
  let first = tile.first + group.z * (TILE_TOKENS / 2u);
  let end = tile.first + tile.count;
  if (first >= end) {
    return;
  }
  let slot = page_table[pool.moe_layer * EXPERTS + tile.expert] - pool.first_slot; // ABSENT stays out of range
  if (slot >= pool.slots) {
    return;
  }
  let page = slot * pool.page_quads;
  let first_row = (group.x * WORKGROUP_SIZE + lane) * 4u;
  // Places that hang over repeat the last and are not stored.
  let last = vec4<u32>(end - 1u);
  let places = first + get_columns(lane);
  var sums = multiply_pair(
    page + pool.gate_base, page + pool.up_base, WIDTH, HIDDEN / 32u, first_row,
    locate(min(places, last)), locate(min(places + 4u, last)), GATED == 1u,
  );
  if (first_row < WIDTH) {
    // One sum after the other in the first place, so that one copy of what stores it is compiled.
    for (var i = 0u; i < 8u; i += 4u) {
      for (var j = 0u; j < 4u; j++) {
        store(page, first_row, places[j] + i, end, sums.a[j], sums.c[j]);
      }
      sums.a = sums.b;
      sums.c = sums.d;
    }
  }
}
