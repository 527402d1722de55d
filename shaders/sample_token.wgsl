// token = argmax over kept i of (logits[i] - max) / temperature + gumbel(seed, position, i); temperature 0: plain argmax.
// Kept: the TOP_K largest, of these the smallest set holding top_p of their probability, of these what has at least min_p of
// the largest probability; equal logits stay or go together. Ties go to the lower id.
//
// Gumbel-max (Gumbel 1954; Maddison et al., A* sampling, 2014) draws from softmax exactly, and its noise is a pure function
// of (seed, position, id): whoever computes the same logits at the same position draws the same token.
// Hash: pcg3d (Jarzynski & Olano, Hash Functions for GPU Rendering, JCGT 9(3), 2020).
//
// Bindings: logits [rows, VOCAB] f32; control: the token of row r goes to word NEXT_TOKEN + r.
// Grid: (rows). One workgroup per row.
override WORKGROUP_SIZE: u32;
override VOCAB: u32;

const LOWEST = -3.4028234e38;

struct Sampling {
  temperature: f32, // 0: greedy
  top_k: u32, // VOCAB or more: all
  top_p: f32, // 1: all
  min_log_p: f32, // natural log of min_p; LOWEST: all
  seed: u32,
  position: u32, // of the token that row 0 samples
}

@group(0) @binding(0) var<uniform> sampling: Sampling;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> control: array<atomic<u32>>;

// Orders f32 as u32: flips all bits of negatives, the sign bit of the others.
fn order_key(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

fn gumbel(position: u32, id: u32) -> f32 {
  var v = vec3<u32>(sampling.seed, position, id) * 1664525u + 1013904223u;
  v.x += v.y * v.z;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v ^= v >> vec3<u32>(16u);
  v.x += v.y * v.z;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  // In (0, 1), finest near 0, where the large noises come from; kept below 1, to which f32 would round the largest.
  let u = min((f32(v.x) + 0.5) * 2.3283064365386963e-10, 0.99999994);
  // -log(1 - u): by its series where 1 - u rounds and WGSL allows log an absolute error of 2^-21.
  let series = u * (1.0 + u * (0.5 + u * (0.33333334 + u * 0.25)));
  return -log(select(-log(1.0 - u), series, u < 0.015625));
}

// How many logits have at least this key, and their probability relative to the largest.
fn survey(row: u32, threshold: u32, highest: f32, lane: u32) -> vec2<f32> {
  var found = vec4<f32>(0.0);
  for (var i = lane; i < VOCAB; i += WORKGROUP_SIZE) {
    let logit = logits[row + i];
    if (order_key(logit) >= threshold) {
      found += vec4<f32>(1.0, exp((logit - highest) / sampling.temperature), 0.0, 0.0);
    }
  }
  return reduce_sum(found, lane).xy;
}

var<workgroup> fault: u32;

@compute @workgroup_size(WORKGROUP_SIZE)
fn sample_token(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (lane == 0u) {
    fault = atomicLoad(&control[FAULT_LAYER]);
  }
  if (workgroupUniformLoad(&fault) != NO_FAULT) {
    return;
  }
  let row = group.x * VOCAB;
  var own_highest = LOWEST;
  for (var i = lane; i < VOCAB; i += WORKGROUP_SIZE) {
    own_highest = max(own_highest, logits[row + i]);
  }
  let highest = reduce_max(own_highest, lane);

  // The largest key that still keeps enough, found bit by bit.
  var threshold = 0u;
  if (sampling.temperature > 0.0 && sampling.top_k < VOCAB) {
    for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
      if (survey(row, threshold | bit, highest, lane).x >= f32(sampling.top_k)) {
        threshold |= bit;
      }
    }
  }
  if (sampling.temperature > 0.0 && sampling.top_p < 1.0) {
    let enough = survey(row, threshold, highest, lane).y * sampling.top_p;
    var kept = 0u;
    for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
      if (survey(row, max(threshold, kept | bit), highest, lane).y >= enough) {
        kept |= bit;
      }
    }
    threshold = max(threshold, kept);
  }
  // The largest always stays, also for a top_k or top_p of (nearly) zero.
  threshold = min(threshold, order_key(highest));

  var best = 0u;
  var best_id = 0u;
  for (var i = lane; i < VOCAB; i += WORKGROUP_SIZE) {
    let logit = logits[row + i];
    var score = logit;
    if (sampling.temperature > 0.0) {
      let log_p = (logit - highest) / sampling.temperature;
      if (order_key(logit) < threshold || log_p < sampling.min_log_p) {
        continue;
      }
      score = log_p + gumbel(sampling.position + group.x, i);
    }
    let key = order_key(score);
    if (key > best) {
      best = key;
      best_id = i;
    }
  }
  let winner = reduce_max_u32(best, lane);
  // The lowest id among the lanes that hold the winner: the highest of its complement.
  let id = ~reduce_max_u32(select(0u, ~best_id, best == winner), lane);
  if (lane == 0u) {
    atomicStore(&control[NEXT_TOKEN + group.x], id);
  }
}
