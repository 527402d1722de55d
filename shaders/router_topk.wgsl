// x = norm(residual);  l = W x + bias, or W h where a router_state made h;  s = softmax(l) or sigmoid(l);  the TOP_K best, in falling order, ties to the lower id;
// then the page table: an expert without a slot raises the fault word. Behind a fault it names the experts that the residual
// stream of the shadow would choose, and raises nothing; a draft raises nothing either.
//
// Best: by l; by s + choice bias where SCORED, then with GROUPS only from the best groups. A weight is s of the expert; with
// NORMALIZE divided by max(sum of the chosen + SUM_EPSILON, SUM_FLOOR); times WEIGHT_SCALE.
// SPARSEMIXER (Phi-3.5-MoE, arXiv 2409.12136, at inference): twice the largest l that is left, its weight by a softmax over
// those left with (m - l) <= 2 JITTER max(|l|, m), m the largest.
// RELU (BlockFFN, arXiv 2507.08771): s = relu(l), with SCORE_NORM s / sqrt(mean(s^2) + SCORE_EPSILON) * its weights.
//
// VARIABLE: some of the TOP_K are no choice: those behind the first by which the scores' sum has passed TOP_P (dynamic routing,
// arXiv 2403.07652), null experts, whose ids lie behind the others' (AdaMoE, arXiv 2406.13233), and without a positive l those
// of RELU. What is left comes first, in its order; behind it lies NO_EXPERT with a weight of 0. NORMALIZE goes over what is left.
//
// INPUT: x = norm(residual); or that, and the residual stream becomes x, on which rounds of experts go on; or in these, x = residual
// (Chain-of-Experts, arXiv 2506.18945). The stream that a shadow only looks at stays.
//
// Bindings: gate f32: the norm's weights (and of a LayerNorm biases) [1 or 2, HIDDEN], W [CANDIDATES, HIDDEN or STATE], the logits' bias,
// the choice's and the scores' norm [EXPERTS up to a multiple of 4] where there is one; residual, x [2, CAPACITY, HIDDEN] f32: exact, shadow;
// page_table [MoE layers, EXPERTS] u32; states [MoE layers, rows, STATE] f32; route_ids, route_weights [MoE layers, rows, TOP_K].
// Grid: (rows). One workgroup per row. Assumes HIDDEN % 4 == 0.
override WORKGROUP_SIZE: u32;
override HIDDEN: u32;
override EXPERTS: u32;
// And null experts.
override CANDIDATES: u32;
override TOP_K: u32;
override EPSILON: f32;
// 0: RMSNorm, 1: LayerNorm.
override LAYER_NORM: u32;
// 0: softmax, 1: sigmoid, 2: sparsemixer, 3: relu.
override SCORING: u32;
override LOGIT_BIAS: u32;
override CHOICE_BIAS: u32;
// 1: chosen by score (and choice bias), not by logit.
override SCORED: u32;
// 1: no groups. Else a group counts as its best score, or with GROUP_TWO as the sum of its two best.
override GROUPS: u32;
override GROUPS_USED: u32;
override GROUP_TWO: u32;
// 1: weights are divided by their sum.
override NORMALIZE: u32;
override SUM_EPSILON: f32;
override SUM_FLOOR: f32;
override WEIGHT_SCALE: f32;
override JITTER: f32;
// 1: RELU's scores have a norm.
override SCORE_NORM: u32;
override SCORE_EPSILON: f32;
override VARIABLE: u32;
// 0: experts are scored by x.
override STATE: u32;
// 0: normed, 1: normed, and so the stream, 2: the stream as it is.
override INPUT: u32;
// 0: as many as TOP_K.
override TOP_P: f32;
// Rows of the exact half of residual and x; the shadow's half follows.
override CAPACITY: u32;

const SIGMOID = 1u;
const SPARSEMIXER = 2u;
const RELU = 3u;
const NORMED_STREAM = 1u;
const STREAM = 2u;
const LOWEST = -3.4028234e38;

@group(0) @binding(0) var<uniform> moe_layer: u32;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> residual: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> page_table: array<u32>;
@group(0) @binding(5) var<storage, read_write> control: array<atomic<u32>>;
@group(0) @binding(6) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> route_ids: array<u32>;
@group(0) @binding(8) var<storage, read_write> route_weights: array<f32>;
@group(0) @binding(9) var<storage, read> states: array<vec4<f32>>;

// FAULT_LAYER, RUN_AHEAD, DRAFT.
var<workgroup> pass_state: vec3<u32>;
var<workgroup> logits: array<f32, CANDIDATES>;
// What the choice goes by.
var<workgroup> keys: array<f32, CANDIDATES>;
var<workgroup> group_keys: array<f32, GROUPS>;
var<workgroup> chosen: array<u32, TOP_K>;
var<workgroup> chosen_weights: array<f32, TOP_K>;

// One entry of the vectors over the experts that lie behind W.
fn get_bias(vector: u32, expert: u32) -> f32 {
  let quads = (EXPERTS + 3u) / 4u;
  return gate[(1u + LAYER_NORM) * (HIDDEN / 4u) + CANDIDATES * (select(HIDDEN, STATE, STATE > 0u) / 4u) + vector * quads + expert / 4u][expert % 4u];
}

// Only lane 0 runs it: two rounds over few experts.
fn mix_sparsely() {
  for (var rank = 0u; rank < TOP_K; rank++) {
    var best = 0u;
    var highest = LOWEST;
    for (var expert = 0u; expert < EXPERTS; expert++) {
      if (logits[expert] > highest && (rank == 0u || expert != chosen[0])) {
        highest = logits[expert];
        best = expert;
      }
    }
    var total = 0.0;
    for (var expert = 0u; expert < EXPERTS; expert++) {
      let l = logits[expert];
      let is_near = highest - l <= 2.0 * JITTER * max(abs(l), highest);
      if (is_near && (rank == 0u || expert != chosen[0])) {
        total += exp(l - highest);
      }
    }
    chosen[rank] = best;
    chosen_weights[rank] = 1.0 / total;
  }
}

// Whether a choice counts. By the scores, once they are in the place of the logits.
fn is_present(rank: u32) -> bool {
  let expert = chosen[rank];
  if (expert >= EXPERTS || (SCORING == RELU && keys[expert] <= 0.0)) {
    return false;
  }
  var before = 0.0;
  if (TOP_P > 0.0) {
    for (var other = 0u; other < rank; other++) {
      before += logits[chosen[other]];
    }
  }
  return before <= TOP_P;
}

fn read_norm(i: u32) -> vec4<f32> {
  return gate[i];
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn router_topk(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (lane == 0u) {
    pass_state = vec3<u32>(
      atomicLoad(&control[FAULT_LAYER]),
      atomicLoad(&control[RUN_AHEAD]),
      atomicLoad(&control[DRAFT]),
    );
  }
  let state = workgroupUniformLoad(&pass_state);
  let mode = get_router_mode(state.x, state.y, moe_layer);
  if (mode == DEAD) {
    return;
  }
  let is_shadow = mode == SHADOW;
  let quads = HIDDEN / 4u;
  // With RUN_AHEAD 1 nothing but routers runs behind a fault, on the exact residual stream as the fault left it.
  let row = (select(0u, CAPACITY, is_shadow && state.y > 1u) + group.x) * quads;
  let x_row = (select(0u, CAPACITY, is_shadow) + group.x) * quads;
  if (INPUT == STREAM) {
    for (var i = lane; i < quads; i += WORKGROUP_SIZE) {
      x[x_row + i] = residual[row + i];
    }
  } else {
    write_norm(row, x_row, sum_own(row, lane), lane);
  }
  if (INPUT == NORMED_STREAM && (!is_shadow || state.y > 1u)) {
    for (var i = lane; i < quads; i += WORKGROUP_SIZE) {
      residual[row + i] = x[x_row + i];
    }
  }

  let input_quads = select(quads, STATE / 4u, STATE > 0u);
  // Four experts at a time; a lane reads back only what it wrote itself.
  for (var first = 0u; first < CANDIDATES; first += 4u) {
    let rows = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(CANDIDATES - 1u));
    let w = (1u + LAYER_NORM) * quads + rows * input_quads;
    var sum = vec4<f32>(0.0);
    for (var i = lane; i < input_quads; i += WORKGROUP_SIZE) {
      var v: vec4<f32>;
      if (STATE > 0u) {
        v = states[(moe_layer * step.rows + group.x) * input_quads + i];
      } else {
        v = x[x_row + i];
      }
      sum += vec4<f32>(dot(gate[w.x + i], v), dot(gate[w.y + i], v), dot(gate[w.z + i], v), dot(gate[w.w + i], v));
    }
    let total = reduce_sum(sum, lane);
    if (lane == 0u) {
      for (var i = 0u; i < min(4u, CANDIDATES - first); i++) {
        var logit = total[i];
        if (LOGIT_BIAS == 1u) {
          logit += get_bias(0u, first + i);
        }
        logits[first + i] = logit;
      }
    }
  }
  workgroupBarrier();

  if (SCORING == SPARSEMIXER) {
    if (lane == 0u) {
      mix_sparsely();
    }
  } else {
    var own_highest = LOWEST;
    for (var expert = lane; expert < CANDIDATES; expert += WORKGROUP_SIZE) {
      own_highest = max(own_highest, logits[expert]);
    }
    let highest = reduce_max(own_highest, lane);
    var own_sum = 0.0;
    for (var expert = lane; expert < CANDIDATES; expert += WORKGROUP_SIZE) {
      if (SCORING == RELU) {
        let score = max(logits[expert], 0.0);
        own_sum += score * score;
      } else {
        own_sum += exp(logits[expert] - highest);
      }
    }
    let whole = reduce_sum(vec4<f32>(own_sum, 0.0, 0.0, 0.0), lane).x;
    for (var expert = lane; expert < CANDIDATES; expert += WORKGROUP_SIZE) {
      let logit = logits[expert];
      var score = select(exp(logit - highest) / whole, 1.0 / (1.0 + exp(-logit)), SCORING == SIGMOID);
      if (SCORING == RELU) {
        score = max(logit, 0.0);
        if (SCORE_NORM == 1u) {
          score *= inverseSqrt(whole / f32(EXPERTS) + SCORE_EPSILON) * get_bias(LOGIT_BIAS + CHOICE_BIAS, expert);
        }
      }
      keys[expert] = select(logit, score, SCORED == 1u);
      if (CHOICE_BIAS == 1u) {
        keys[expert] += get_bias(LOGIT_BIAS, expert);
      }
      // From here on the score.
      logits[expert] = score;
    }
    workgroupBarrier();

    if (GROUPS > 1u) {
      let size = EXPERTS / GROUPS;
      for (var i = lane; i < GROUPS; i += WORKGROUP_SIZE) {
        var best = LOWEST;
        var second = LOWEST;
        for (var expert = i * size; expert < (i + 1u) * size; expert++) {
          let key = keys[expert];
          second = max(second, min(best, key));
          best = max(best, key);
        }
        group_keys[i] = select(best, best + second, GROUP_TWO == 1u);
      }
      workgroupBarrier();
      for (var expert = lane; expert < EXPERTS; expert += WORKGROUP_SIZE) {
        let own = expert / size;
        var rank = 0u;
        for (var other = 0u; other < GROUPS; other++) {
          let before = group_keys[other] > group_keys[own] || (group_keys[other] == group_keys[own] && other < own);
          rank += select(0u, 1u, before);
        }
        if (rank >= GROUPS_USED) {
          keys[expert] = LOWEST;
        }
      }
      workgroupBarrier();
    }

    // An expert's rank is the number of experts before it; ranks below TOP_K are the choice.
    for (var expert = lane; expert < CANDIDATES; expert += WORKGROUP_SIZE) {
      let own = keys[expert];
      var rank = 0u;
      for (var other = 0u; other < CANDIDATES; other++) {
        let before = keys[other] > own || (keys[other] == own && other < expert);
        rank += select(0u, 1u, before);
      }
      if (rank < TOP_K) {
        chosen[rank] = expert;
      }
    }
    workgroupBarrier();

    var divisor = 1.0;
    if (NORMALIZE == 1u) {
      var sum = SUM_EPSILON;
      for (var rank = 0u; rank < TOP_K; rank++) {
        if (VARIABLE == 0u || is_present(rank)) {
          sum += logits[chosen[rank]];
        }
      }
      divisor = max(sum, SUM_FLOOR);
    }
    for (var rank = lane; rank < TOP_K; rank += WORKGROUP_SIZE) {
      chosen_weights[rank] = WEIGHT_SCALE * logits[chosen[rank]] / divisor;
    }
  }
  workgroupBarrier();

  let out = (moe_layer * step.rows + group.x) * TOP_K;
  for (var rank = lane; rank < TOP_K; rank += WORKGROUP_SIZE) {
    let expert = chosen[rank];
    if (VARIABLE == 1u) {
      let present = is_present(rank);
      var place = 0u;
      for (var other = 0u; other < TOP_K; other++) {
        place += select(0u, 1u, (other < rank || !present) && is_present(other));
      }
      if (!present) {
        // Behind all that are present, in turn.
        for (var other = 0u; other < rank; other++) {
          place += select(1u, 0u, is_present(other));
        }
      }
      route_ids[out + place] = select(NO_EXPERT, expert, present);
      route_weights[out + place] = select(0.0, chosen_weights[rank], present);
      if (!present) {
        continue;
      }
    } else {
      route_ids[out + rank] = expert;
      route_weights[out + rank] = chosen_weights[rank];
    }
    if (!is_shadow && state.z == 0u && page_table[moe_layer * EXPERTS + expert] == ABSENT) {
      atomicMin(&control[FAULT_LAYER], moe_layer);
    }
  }
}
