// token = argmax over kept i of (logits[i] - max) / temperature + gumbel(seed, position, i); temperature 0: plain argmax.
// Kept: the TOP_K largest, of these the smallest set holding top_p of their probability, of these what has at least min_p of
// the largest probability; equal logits stay or go together. Ties go to the lower id.
//
// Gumbel-max (Gumbel 1954; Maddison et al., A* sampling, 2014) draws from softmax exactly, and its noise is a pure function
// of (seed, position, id): whoever computes the same logits at the same position draws the same token.
// Hash: pcg3d (Jarzynski & Olano, Hash Functions for GPU Rendering, JCGT 9(3), 2020).
//
// Bindings: logits [rows, VOCAB] f32; control: the token of row r goes to word NEXT_TOKEN + r.
// Grid: (rows). One workgroup per row, which reads its logits twice, and 32 / DIGIT_BITS times more for each of
// top_k and top_p.
// Assumes VOCAB < 2^19: beyond, sums of masses could overflow.
override WORKGROUP_SIZE: u32;
override VOCAB: u32;
// A search takes 32 / DIGIT_BITS readings; a divisor of 32. Software adapters compile every word of workgroup memory for itself,
// where wide digits cost a second.
override DIGIT_BITS: u32;

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

// Counts and masses as integers, so that a sum over the vocabulary depends on no order: limbs of 13 bits, whose sums over
// 2^19 - 1 ids still fit; a value is x 2^-13 + y 2^-26 + z 2^-39.
const LIMB = 8192.0;
override BINS: u32 = 1u << DIGIT_BITS;

fn split_mass(mass: f32) -> vec3<u32> {
  let x = floor(mass * LIMB);
  let rest = mass * LIMB - x;
  let y = floor(rest * LIMB);
  return vec3<u32>(u32(x), u32(y), u32((rest * LIMB - y) * LIMB));
}

var<workgroup> bins: array<atomic<u32>, 3u * BINS>;
// What is searched for: the digits known so far, and how much of it must lie at or above the rest.
var<workgroup> search: vec2<u32>;

fn read_bin(bin: u32) -> f32 {
  let y = f32(atomicLoad(&bins[bin * 3u + 1u])) + f32(atomicLoad(&bins[bin * 3u + 2u])) / LIMB;
  return (f32(atomicLoad(&bins[bin * 3u])) + y / LIMB) / LIMB;
}

// The largest key for which the logits of this key and above, those below `least` left out, weigh enough: one of top_k each,
// or their share of the probability. Digit by digit, each by a histogram (radix select).
fn find_key(row: u32, lane: u32, highest: f32, least: u32, by_mass: bool) -> u32 {
  var known = 0u;
  var wanted = f32(sampling.top_k) / LIMB;
  for (var shift = 32u; shift > 0u; shift -= DIGIT_BITS) {
    for (var i = lane; i < 3u * BINS; i += WORKGROUP_SIZE) {
      atomicStore(&bins[i], 0u);
    }
    workgroupBarrier();
    for (var i = lane; i < VOCAB; i += WORKGROUP_SIZE) {
      let logit = logits[row + i];
      let key = order_key(logit);
      // Digits above this one are known: a shift by 32 would be undefined.
      let is_candidate = shift == 32u || (key >> (shift & 31u)) == (known >> (shift & 31u));
      if (key >= least && is_candidate) {
        let bin = (key >> (shift - DIGIT_BITS)) & (BINS - 1u);
        var weight = vec3<u32>(1u, 0u, 0u);
        if (by_mass) {
          weight = split_mass(exp((logit - highest) / sampling.temperature));
        }
        for (var limb = 0u; limb < select(1u, 3u, by_mass); limb++) {
          atomicAdd(&bins[bin * 3u + limb], weight.x);
          weight = weight.yzx;
        }
      }
    }
    workgroupBarrier();
    if (lane == 0u) {
      if (by_mass && shift == 32u) {
        var total = 0.0;
        for (var bin = BINS; bin > 0u; bin--) {
          total += read_bin(bin - 1u);
        }
        wanted = total * sampling.top_p;
      }
      // The lowest bin with anything in it is the last resort: rounding may leave a trifle wanting.
      var chosen = BINS - 1u;
      var above = 0.0;
      var above_chosen = 0.0;
      for (var bin = BINS; bin > 0u; bin--) {
        let own = read_bin(bin - 1u);
        if (own > 0.0 || above >= wanted) {
          chosen = bin - 1u;
          above_chosen = above;
        }
        above += own;
        if (above >= wanted) {
          break;
        }
      }
      search = vec2<u32>(known | (chosen << (shift - DIGIT_BITS)), bitcast<u32>(wanted - above_chosen));
    }
    let found = workgroupUniformLoad(&search);
    known = found.x;
    wanted = bitcast<f32>(found.y);
  }
  return known;
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

  var threshold = 0u;
  // A loop, so that one copy of the search is compiled: top_k, then top_p.
  for (var i = 0u; i < 2u; i++) {
    if (sampling.temperature > 0.0 && select(sampling.top_k < VOCAB, sampling.top_p < 1.0, i == 1u)) {
      threshold = max(threshold, find_key(row, lane, highest, threshold, i == 1u));
    }
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
