// residual[row] += RESIDUAL_SCALE * sum over ranks, in router order, of weight[rank] * outputs[row, rank];
// x[row] = norm(residual[row]): what the next layer, or the head, reads
//
// Bindings: outputs [rows, TOP_K, HIDDEN] f32; route_weights [MoE layers, rows, TOP_K] f32;
// residual [2, CAPACITY, HIDDEN] f32: exact, shadow; x [rows, HIDDEN] f32;
// norm [1 or 2, HIDDEN] f32: weights, and of a LayerNorm biases.
// Grid: (rows). One workgroup per row. Row 0 counts the layer as executed. Assumes HIDDEN % 4 == 0.
override WORKGROUP_SIZE: u32;
override HIDDEN: u32;
override TOP_K: u32;
override EPSILON: f32;
// 0: RMSNorm, 1: LayerNorm.
override LAYER_NORM: u32;
override RESIDUAL_SCALE: f32;
// 1: ranks without an expert, whose weight is 0, have no output.
override VARIABLE: u32;
// Rows of the exact half of residual; the shadow's half follows.
override CAPACITY: u32;

@group(0) @binding(0) var<uniform> moe_layer: u32;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> outputs: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> route_weights: array<f32>;
@group(0) @binding(4) var<storage, read_write> residual: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> norm: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> control: array<atomic<u32>>;

var<workgroup> fault_and_run_ahead: vec2<u32>;

fn read_norm(i: u32) -> vec4<f32> {
  return norm[i];
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn combine_norm(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (lane == 0u) {
    fault_and_run_ahead = vec2<u32>(atomicLoad(&control[FAULT_LAYER]), atomicLoad(&control[RUN_AHEAD]));
  }
  let state = workgroupUniformLoad(&fault_and_run_ahead);
  let mode = get_expert_mode(state.x, state.y, moe_layer);
  if (mode == DEAD) {
    return;
  }
  let quads = HIDDEN / 4u;
  // The layer that faulted keeps its exact residual stream: the shadow starts as a copy.
  let from_row = (select(0u, CAPACITY, state.x < moe_layer) + group.x) * quads;
  let row = (select(0u, CAPACITY, mode == SHADOW) + group.x) * quads;
  let x_row = group.x * quads;
  let weights = (moe_layer * step.rows + group.x) * TOP_K;
  var own_sum = 0.0;
  for (var i = lane; i < quads; i += WORKGROUP_SIZE) {
    var mixed = vec4<f32>(0.0);
    for (var rank = 0u; rank < TOP_K; rank++) {
      let weight = route_weights[weights + rank];
      if (VARIABLE == 1u && weight == 0.0) {
        continue;
      }
      mixed += weight * outputs[(group.x * TOP_K + rank) * quads + i];
    }
    let value = residual[from_row + i] + RESIDUAL_SCALE * mixed;
    residual[row + i] = value;
    own_sum += dot(value, vec4<f32>(1.0));
  }
  write_norm(row, x_row, own_sum, lane);
  if (mode == EXACT && lane == 0u && group.x == 0u) {
    atomicAdd(&control[LAYERS_EXECUTED], 1u);
  }
}
