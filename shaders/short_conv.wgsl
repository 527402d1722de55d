// Of a row of projections B, C, x [HIDDEN each] (LFM2's short convolution):
// cache[position] = B * x;  out[row] = C * (bias + sum over t < TAPS of kernel[:, t] * (B * x)[position - (TAPS - 1) + t])
//
// The state is the last B * x, kept by position in a ring longer than a pass and the taps before it: a pass that runs again,
// or from an earlier position on, finds what it found. Positions before the first count as zeros.
// Bindings: projections [rows, 3 HIDDEN] f32; taps [HIDDEN, TAPS] f32; bias [HIDDEN] f32 (unread without); cache
// [CACHE_LENGTH, HIDDEN] f32, a position p at p % CACHE_LENGTH; out [rows, HIDDEN] f32.
// Grid: (ceil(HIDDEN / WORKGROUP_SIZE), rows). One lane per channel and row; assumes CACHE_LENGTH >= rows + TAPS - 1.
override WORKGROUP_SIZE: u32;
override HIDDEN: u32;
override TAPS: u32;
override BIAS: u32;
override CACHE_LENGTH: u32;

@group(0) @binding(0) var<uniform> moe_layer: u32;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> projections: array<f32>;
@group(0) @binding(3) var<storage, read> taps: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> cache: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
@group(0) @binding(7) var<storage, read> control: array<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn short_conv(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (get_attention_mode(control[FAULT_LAYER], control[RUN_AHEAD], moe_layer) == DEAD) {
    return;
  }
  let channel = group.x * WORKGROUP_SIZE + lane;
  if (channel >= HIDDEN) {
    return;
  }
  let row = group.y;
  let position = step.position + row;
  var sum = 0.0;
  for (var t = 0u; t < TAPS; t++) {
    let back = TAPS - 1u - t;
    if (back > position) {
      continue;
    }
    var value: f32;
    if (back <= row) {
      // Of this pass, maybe not in the cache yet.
      let at = (row - back) * 3u * HIDDEN + channel;
      value = projections[at] * projections[at + 2u * HIDDEN];
    } else {
      value = cache[(position - back) % CACHE_LENGTH * HIDDEN + channel];
    }
    sum += taps[channel * TAPS + t] * value;
    if (back == 0u) {
      cache[position % CACHE_LENGTH * HIDDEN + channel] = value;
    }
  }
  if (BIAS == 1u) {
    sum += bias[channel];
  }
  out[row * HIDDEN + channel] = projections[row * 3u * HIDDEN + HIDDEN + channel] * sum;
}
