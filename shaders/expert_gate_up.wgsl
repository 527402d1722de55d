// act[row, rank, :] = activate(G x[row] + g, U x[row] + u), G, U and the biases those of the expert that the row chose at this
// rank. activate(g, u) is silu(g) * u, or gpt-oss's: (clamp(u, -LIMIT, LIMIT) + 1) * g' * sigmoid(ALPHA * g'), g' = min(g, LIMIT).
// Without GATED there is one matrix, silu(U x[row]), whose place is the gate's.
// FACTOR: act[row, rank, :] *= F x[row], behind the product above; F in the gate's place.
//
// Bindings: weights: the slots of one layer, each a page [gate | up | down | biases] quantised in place;
// x [2, CAPACITY, hidden] f32: exact, shadow; route_ids [MoE layers, rows, TOP_K]; page_table [MoE layers, EXPERTS];
// act [rows, TOP_K, WIDTH] f32.
// Grid: (TOP_K, rows, ceil(WIDTH / (4 * TILES))): choices come fastest, so that those of one expert read its weights together.
// An expert without a slot, or with one in another buffer, is left out: the fault path or another dispatch makes it. Assumes
// hidden % 32 == 0.
override WORKGROUP_SIZE: u32;
override TILES: u32;
override EXPERTS: u32;
override TOP_K: u32;
override HIDDEN: u32;
override WIDTH: u32;
// Rows of the exact half of x; the shadow's half follows.
override CAPACITY: u32;
// 1: experts have biases.
override BIAS: u32;
// 0: experts have no gate.
override GATED: u32;
// 1: multiplies what is there.
override FACTOR: u32;

@group(0) @binding(0) var<uniform> pool: Pool;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> route_ids: array<u32>;
@group(0) @binding(5) var<storage, read> page_table: array<u32>;
@group(0) @binding(6) var<storage, read_write> act: array<f32>;
@group(0) @binding(7) var<storage, read> control: array<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn expert_gate_up(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let mode = get_expert_mode(control[FAULT_LAYER], control[RUN_AHEAD], pool.moe_layer);
  if (mode == DEAD) {
    return;
  }
  let choice = group.y * TOP_K + group.x;
  let expert = route_ids[pool.moe_layer * step.rows * TOP_K + choice];
  if (expert == NO_EXPERT) {
    return;
  }
  let slot = page_table[pool.moe_layer * EXPERTS + expert] - pool.first_slot; // ABSENT stays out of range
  if (slot >= pool.slots) {
    return;
  }
  // The layer that faulted has its exact input.
  let x_row = select(0u, CAPACITY, control[FAULT_LAYER] < pool.moe_layer) + group.y;
  let page = slot * pool.page_quads;
  let blocks = HIDDEN / 32u;
  for (var tile = 0u; tile < TILES; tile += SPAN) {
    let first = (group.z * TILES + tile) * 4u;
    if (first >= WIDTH) {
      break;
    }
    var gate = mat4x4<f32>();
    var up = mat4x4<f32>();
    for (var block = lane; block < blocks; block += WORKGROUP_SIZE) {
      let at = (x_row * blocks + block) * 8u;
      // One by one: software adapters pay for an index that is not a constant.
      var xs = stage_block(array<vec4<f32>, 8>(
        x[at], x[at + 1u], x[at + 2u], x[at + 3u],
        x[at + 4u], x[at + 5u], x[at + 6u], x[at + 7u],
      ));
      // Gate, then up, each in the gate's place, so that one copy of the product is compiled.
      for (var matrix = 0u; matrix < 1u + GATED; matrix++) {
        let base = page + select(pool.gate_base, pool.up_base, matrix == 1u);
        for (var i = 0u; i < 4u * SPAN; i++) {
          let row = min(first + i, WIDTH - 1u);
          gate = turn_sums(gate, gate[0].x + block_dot(base, WIDTH * blocks, row * blocks + block, &xs));
        }
        if (GATED == 1u) {
          let other = up;
          up = gate;
          gate = other;
        }
      }
    }
    for (var r = first; r < min(first + 4u * SPAN, WIDTH); r += 4u) {
      var g = reduce_sum(gate[0], lane);
      var u = vec4<f32>(1.0);
      if (GATED == 1u) {
        u = reduce_sum(up[0], lane);
      }
      gate = turn_quads(gate);
      up = turn_quads(up);
      if (BIAS == 1u) {
        g += bitcast<vec4<f32>>(weights[page + pool.gate_bias + r / 4u]);
        u += bitcast<vec4<f32>>(weights[page + pool.up_bias + r / 4u]);
      }
      if (lane == 0u) {
        let value = activate(g, u);
        for (var i = 0u; i < min(4u, WIDTH - r); i++) {
          let at = choice * WIDTH + r + i;
          if (FACTOR == 1u) {
            act[at] *= g[i];
          } else {
            act[at] = value[i];
          }
        }
      }
    }
  }
}
