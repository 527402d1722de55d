// x[row] = norm(residual[row]): what the MLP of a layer without experts reads, or the layer behind it
//
// Bindings: residual [2, CAPACITY, HIDDEN] f32: exact, shadow; norm [1 or 2, HIDDEN] f32: weights, and of a LayerNorm biases;
// x f32, in shadow shadow_offset further on.
// Grid: (rows). One workgroup per row. Assumes HIDDEN % 4 == 0.
override WORKGROUP_SIZE: u32;
override HIDDEN: u32;
override EPSILON: f32;
// 0: RMSNorm, 1: LayerNorm.
override LAYER_NORM: u32;
override CAPACITY: u32;

struct Place {
  moe_layer: u32, // the MoE layer at or behind it
  shadow_offset: u32, // in values: CAPACITY * HIDDEN, or 0 where x has one half
}

@group(0) @binding(0) var<uniform> place: Place;
@group(0) @binding(1) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> norm_weights: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> control: array<u32>;

fn read_norm(i: u32) -> vec4<f32> {
  return norm_weights[i];
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn norm(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let mode = get_attention_mode(control[FAULT_LAYER], control[RUN_AHEAD], place.moe_layer);
  if (mode == DEAD) {
    return;
  }
  let quads = HIDDEN / 4u;
  let row = (select(0u, CAPACITY, mode == SHADOW) + group.x) * quads;
  let x_row = select(0u, place.shadow_offset / 4u, mode == SHADOW) + group.x * quads;
  write_norm(row, x_row, sum_own(row, lane), lane);
}
