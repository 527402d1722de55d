// x = norm(residual);  h' = (1 - z) n + z h, h the state of the MoE layer before (0 in the first), i = W1 x:
//   r = sigmoid(Wir i + bir + Whr h + bhr);  z likewise;  n = tanh(Win i + bin + r (Whn h + bhn))
//
// A recurrent router (RMoE, arXiv 2408.06793, section 3.1): the state of a GRU goes through a token's layers, and router_topk
// scores the experts by it. What runs in shadow writes states that the exact pass writes again before it reads them.
// Bindings: input: the norm's weights (and of a LayerNorm biases) [1 or 2, HIDDEN], W1 [STATE, HIDDEN]; cell: Wir, Wiz, Win, Whr,
// Whz, Whn [STATE, STATE] each, then the biases in this order [STATE] each; residual, x [2, CAPACITY, HIDDEN] f32: exact, shadow;
// states [MoE layers, rows, STATE] f32.
// Grid: (rows). One workgroup per row. Assumes HIDDEN % 4 == 0, STATE % 4 == 0.
override WORKGROUP_SIZE: u32;
override HIDDEN: u32;
override EPSILON: f32;
// 0: RMSNorm, 1: LayerNorm.
override LAYER_NORM: u32;
// Rows of the exact half of residual and x; the shadow's half follows.
override CAPACITY: u32;
override STATE: u32;
override STATE_QUADS: u32;

@group(0) @binding(0) var<uniform> moe_layer: u32;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> cell: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> control: array<u32>;
@group(0) @binding(6) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> states: array<vec4<f32>>;

var<workgroup> inputs: array<vec4<f32>, STATE_QUADS>;
var<workgroup> before: array<vec4<f32>, STATE_QUADS>;

fn read_norm(i: u32) -> vec4<f32> {
  return input[i];
}

// A row of one of the cell's matrices with four values.
fn multiply(matrix: u32, unit: u32, i: u32, v: vec4<f32>) -> f32 {
  return dot(cell[(matrix * STATE + unit) * STATE_QUADS + i], v);
}

fn get_bias(vector: u32, unit: u32) -> f32 {
  return cell[(6u * STATE + vector) * STATE_QUADS + unit / 4u][unit % 4u];
}

fn sigmoid(v: f32) -> f32 {
  return 1.0 / (1.0 + exp(-v));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn router_state(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let run_ahead = control[RUN_AHEAD];
  let mode = get_router_mode(control[FAULT_LAYER], run_ahead, moe_layer);
  if (mode == DEAD) {
    return;
  }
  let is_shadow = mode == SHADOW;
  let quads = HIDDEN / 4u;
  // As router_topk.
  let row = (select(0u, CAPACITY, is_shadow && run_ahead > 1u) + group.x) * quads;
  let x_row = (select(0u, CAPACITY, is_shadow) + group.x) * quads;
  write_norm(row, x_row, sum_own(row, lane), lane);

  // A lane reads back only what it wrote itself.
  for (var first = 0u; first < STATE; first += 4u) {
    let w = (vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u) + (1u + LAYER_NORM)) * quads;
    var sum = vec4<f32>(0.0);
    for (var i = lane; i < quads; i += WORKGROUP_SIZE) {
      let v = x[x_row + i];
      sum += vec4<f32>(dot(input[w.x + i], v), dot(input[w.y + i], v), dot(input[w.z + i], v), dot(input[w.w + i], v));
    }
    let total = reduce_sum(sum, lane);
    if (lane == 0u) {
      inputs[first / 4u] = total;
    }
  }
  let state_row = (moe_layer * step.rows + group.x) * STATE_QUADS;
  for (var i = lane; i < STATE_QUADS; i += WORKGROUP_SIZE) {
    if (moe_layer == 0u) {
      before[i] = vec4<f32>(0.0);
    } else {
      before[i] = states[state_row - step.rows * STATE_QUADS + i];
    }
  }
  workgroupBarrier();

  for (var quad = 0u; quad < STATE_QUADS; quad++) {
    var next = vec4<f32>(0.0);
    for (var j = 0u; j < 4u; j++) {
      let unit = quad * 4u + j;
      // Of the reset gate, of the update gate, and the two parts of the new state.
      var sum = vec4<f32>(0.0);
      for (var i = lane; i < STATE_QUADS; i += WORKGROUP_SIZE) {
        let v = inputs[i];
        let h = before[i];
        sum += vec4<f32>(
          multiply(0u, unit, i, v) + multiply(3u, unit, i, h),
          multiply(1u, unit, i, v) + multiply(4u, unit, i, h),
          multiply(2u, unit, i, v),
          multiply(5u, unit, i, h),
        );
      }
      let total = reduce_sum(sum, lane);
      let r = sigmoid(total.x + get_bias(0u, unit) + get_bias(3u, unit));
      let z = sigmoid(total.y + get_bias(1u, unit) + get_bias(4u, unit));
      let n = total.z + get_bias(2u, unit) + r * (total.w + get_bias(5u, unit));
      // Some adapters' tanh overflows; beyond 15 it is 1 in f32.
      next[j] = (1.0 - z) * tanh(clamp(n, -15.0, 15.0)) + z * before[quad][j];
    }
    if (lane == 0u) {
      states[state_row + quad] = next;
    }
  }
}
