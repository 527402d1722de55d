// x = residual / rms(residual) * norm;  p = softmax(W x);  the TOP_K largest p, in falling order, ties to the lower id;
// then the page table: an expert without a slot raises the fault word. Behind a fault it names the experts that the residual
// stream of the shadow would choose, and raises nothing.
//
// Bindings: gate [1 + EXPERTS, HIDDEN] f32: the norm's weights, then W; residual, x [2, CAPACITY, HIDDEN] f32: exact, shadow;
// page_table [MoE layers, EXPERTS] u32; route_ids, route_weights [MoE layers, rows, TOP_K].
// Grid: (rows). One workgroup per row. Assumes HIDDEN % 4 == 0.
override WORKGROUP_SIZE: u32;
override HIDDEN: u32;
override EXPERTS: u32;
override TOP_K: u32;
override EPSILON: f32;
// 1: weights are divided by their sum.
override NORMALIZE: u32;
// Rows of the exact half of residual and x; the shadow's half follows.
override CAPACITY: u32;

@group(0) @binding(0) var<uniform> moe_layer: u32;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> page_table: array<u32>;
@group(0) @binding(5) var<storage, read_write> control: array<atomic<u32>>;
@group(0) @binding(6) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> route_ids: array<u32>;
@group(0) @binding(8) var<storage, read_write> route_weights: array<f32>;

var<workgroup> fault_and_run_ahead: vec2<u32>;
var<workgroup> logits: array<f32, EXPERTS>;
var<workgroup> chosen: array<u32, TOP_K>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn router_topk(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (lane == 0u) {
    fault_and_run_ahead = vec2<u32>(atomicLoad(&control[FAULT_LAYER]), atomicLoad(&control[RUN_AHEAD]));
  }
  let state = workgroupUniformLoad(&fault_and_run_ahead);
  let is_shadow = state.x < moe_layer;
  if (is_shadow && state.y == 0u) {
    return;
  }
  let quads = HIDDEN / 4u;
  // With RUN_AHEAD 1 nothing but routers runs behind a fault, on the exact residual stream as the fault left it.
  let row = (select(0u, CAPACITY, is_shadow && state.y > 1u) + group.x) * quads;
  let x_row = (select(0u, CAPACITY, is_shadow) + group.x) * quads;

  var squares = 0.0;
  for (var i = lane; i < quads; i += WORKGROUP_SIZE) {
    squares += dot(residual[row + i], residual[row + i]);
  }
  let scale = inverseSqrt(reduce_sum(vec4<f32>(squares, 0.0, 0.0, 0.0), lane).x / f32(HIDDEN) + EPSILON);
  for (var i = lane; i < quads; i += WORKGROUP_SIZE) {
    x[x_row + i] = residual[row + i] * scale * gate[i];
  }

  // Four experts at a time; a lane reads back only what it wrote itself.
  for (var first = 0u; first < EXPERTS; first += 4u) {
    let w = (min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(EXPERTS - 1u)) + 1u) * quads;
    var sum = vec4<f32>(0.0);
    for (var i = lane; i < quads; i += WORKGROUP_SIZE) {
      let v = x[x_row + i];
      sum += vec4<f32>(dot(gate[w.x + i], v), dot(gate[w.y + i], v), dot(gate[w.z + i], v), dot(gate[w.w + i], v));
    }
    let total = reduce_sum(sum, lane);
    if (lane == 0u) {
      for (var i = 0u; i < min(4u, EXPERTS - first); i++) {
        logits[first + i] = total[i];
      }
    }
  }
  workgroupBarrier();

  // An expert's rank is the number of experts before it; ranks below TOP_K are the choice.
  for (var expert = lane; expert < EXPERTS; expert += WORKGROUP_SIZE) {
    let own = logits[expert];
    var rank = 0u;
    for (var other = 0u; other < EXPERTS; other++) {
      let before = logits[other] > own || (logits[other] == own && other < expert);
      rank += select(0u, 1u, before);
    }
    if (rank < TOP_K) {
      chosen[rank] = expert;
    }
  }
  workgroupBarrier();

  let highest = logits[chosen[0]];
  var own_sum = 0.0;
  for (var expert = lane; expert < EXPERTS; expert += WORKGROUP_SIZE) {
    own_sum += exp(logits[expert] - highest);
  }
  var divisor = reduce_sum(vec4<f32>(own_sum, 0.0, 0.0, 0.0), lane).x;
  if (NORMALIZE == 1u) {
    divisor = 0.0;
    for (var rank = 0u; rank < TOP_K; rank++) {
      divisor += exp(logits[chosen[rank]] - highest);
    }
  }
  let out = (moe_layer * step.rows + group.x) * TOP_K;
  for (var rank = lane; rank < TOP_K; rank += WORKGROUP_SIZE) {
    let expert = chosen[rank];
    route_ids[out + rank] = expert;
    route_weights[out + rank] = exp(logits[expert] - highest) / divisor;
    if (!is_shadow && page_table[moe_layer * EXPERTS + expert] == ABSENT) {
      atomicMin(&control[FAULT_LAYER], moe_layer);
    }
  }
}
