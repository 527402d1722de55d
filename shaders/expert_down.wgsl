// outputs[row, rank, :] = D act[row, rank, :] + d, D and its bias those of the expert that the row chose at this rank
//
// Outputs stay apart by rank: combine_norm sums them in router order, whatever order they were made in.
// Bindings: weights: the slots of one layer, each a page [gate | up | down | biases] quantised in place; act [rows, TOP_K, WIDTH];
// route_ids [MoE layers, rows, TOP_K]; page_table [MoE layers, EXPERTS]; outputs [rows, TOP_K, HIDDEN] f32.
// Grid: (TOP_K, rows, ceil(HIDDEN / (4 * TILES))): choices come fastest, so that those of one expert read its weights together.
// An expert without a slot, or with one in another buffer, is left out.
// Assumes WIDTH % 32 == 0.
override WORKGROUP_SIZE: u32;
override TILES: u32;
override EXPERTS: u32;
override TOP_K: u32;
override HIDDEN: u32;
override WIDTH: u32;
// 1: experts have biases.
override BIAS: u32;

@group(0) @binding(0) var<uniform> pool: Pool;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> act: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> route_ids: array<u32>;
@group(0) @binding(5) var<storage, read> page_table: array<u32>;
@group(0) @binding(6) var<storage, read_write> outputs: array<f32>;
@group(0) @binding(7) var<storage, read> control: array<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn expert_down(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let mode = get_expert_mode(control[FAULT_LAYER], control[RUN_AHEAD], pool.moe_layer);
  if (mode == DEAD) {
    return;
  }
  let choice = group.y * TOP_K + group.x;
  let expert = route_ids[pool.moe_layer * step.rows * TOP_K + choice];
  if (expert == NO_EXPERT) {
    return;
  }
  let entry = page_table[pool.moe_layer * EXPERTS + expert];
  // In shadow and in a draft an absent expert adds nothing; the dispatch for the first buffer says so for all.
  let is_left_out = (mode == SHADOW || control[DRAFT] == 1u) && entry == ABSENT && pool.first_slot == 0u;
  let slot = entry - pool.first_slot; // ABSENT stays out of range
  if (slot >= pool.slots && !is_left_out) {
    return;
  }
  let base = slot * pool.page_quads + pool.down_base;
  let blocks = WIDTH / 32u;
  for (var tile = 0u; tile < TILES; tile += SPAN) {
    let first = (group.z * TILES + tile) * 4u;
    if (first >= HIDDEN) {
      break;
    }
    if (is_left_out) {
      for (var i = first + lane; i < min(first + 4u * SPAN, HIDDEN); i += WORKGROUP_SIZE) {
        outputs[choice * HIDDEN + i] = 0.0;
      }
      continue;
    }
    var sums = mat4x4<f32>();
    for (var block = lane; block < blocks; block += WORKGROUP_SIZE) {
      let at = (choice * blocks + block) * 8u;
      // One by one: software adapters pay for an index that is not a constant.
      var xs = stage_block(array<vec4<f32>, 8>(
        act[at], act[at + 1u], act[at + 2u], act[at + 3u],
        act[at + 4u], act[at + 5u], act[at + 6u], act[at + 7u],
      ));
      for (var i = 0u; i < 4u * SPAN; i++) {
        let row = min(first + i, HIDDEN - 1u);
        sums = turn_sums(sums, sums[0].x + block_dot(base, HIDDEN * blocks, row * blocks + block, &xs));
      }
    }
    for (var r = first; r < min(first + 4u * SPAN, HIDDEN); r += 4u) {
      var total = reduce_sum(sums[0], lane);
      sums = turn_quads(sums);
      if (BIAS == 1u) {
        total += bitcast<vec4<f32>>(weights[slot * pool.page_quads + pool.down_bias + r / 4u]);
      }
      if (lane == 0u) {
        for (var i = 0u; i < min(4u, HIDDEN - r); i++) {
          outputs[choice * HIDDEN + r + i] = total[i];
        }
      }
    }
  }
}
