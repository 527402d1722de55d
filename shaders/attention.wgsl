// out[row, head, :] = softmax over the last WINDOW positions p <= own of (q[row, head] . k[p] * SCALE), times v[p]
// A sink is a logit that joins the softmax and is dropped behind it (gpt-oss).
//
// Online softmax over chunks of positions, f32 throughout (Dao et al., FlashAttention, arXiv 2205.14135). With SPANS above 1
// the positions are cut into at most so many spans, a workgroup each, and the kernel that reads `out` adds them up
// (lib/x_spans.wgsl; Flash-Decoding). Spans are whole chunks, as long as each other but for the last, and a function of the
// row's position alone.
// Bindings: qkv [rows, Q_STRIDE] f32 (q its first part); k_cache, v_cache [kv heads, CACHE_LENGTH] rows
// of HEAD_DIM values in units of lib/kv_*.wgsl;
// out [rows, heads, VALUE_DIM] f32, or per span [rows, heads, SPANS] of a sum of VALUE_DIM values that is not divided yet and
// {highest score, sum of weights, spans of the row, 0}; sinks [heads] f32 (unread without).
// Grid: (heads, rows, SPANS). One workgroup per head, row and span: the sums' order depends on the position alone.
// Assumes HEAD_DIM % 4 == 0, VALUE_DIM % 4 == 0.
override WORKGROUP_SIZE: u32;
override CHUNK: u32;
// Spans of a row at most.
override SPANS: u32;
override HEADS: u32;
override KV_HEADS: u32;
override HEAD_DIM: u32;
// Values of v that are read: HEAD_DIM, or the first ones of keys that are values too (latent attention).
override VALUE_DIM: u32;
// Values between rows of q.
override Q_STRIDE: u32;
override CACHE_LENGTH: u32;
override SCALE: f32;
// The largest u32 where the layer sees everything.
override WINDOW: u32;
// 1: position p lies at p % CACHE_LENGTH.
override RING: u32;
override SINKS: u32;

const LOWEST = -3.4028234e38;

@group(0) @binding(0) var<uniform> moe_layer: u32;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> k_cache: array<KvWord>;
@group(0) @binding(4) var<storage, read> v_cache: array<KvWord>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> control: array<u32>;
@group(0) @binding(7) var<storage, read> sinks: array<f32>;

var<workgroup> scores: array<f32, CHUNK>;
var<workgroup> mixed: array<vec4<f32>, VALUE_DIM / 4u>;

fn get_slot(position: u32) -> u32 {
  if (RING == 1u) {
    return position % CACHE_LENGTH;
  }
  return position;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (get_attention_mode(control[FAULT_LAYER], control[RUN_AHEAD], moe_layer) == DEAD) {
    return;
  }
  let quads = HEAD_DIM / 4u;
  let value_quads = VALUE_DIM / 4u;
  let head = group.x;
  let row_words = get_row_words(quads);
  let cache = head / (HEADS / KV_HEADS) * CACHE_LENGTH * row_words;
  let q = group.y * (Q_STRIDE / 4u) + head * quads;
  let positions = step.position + group.y + 1u;
  let oldest = select(0u, positions - WINDOW, positions > WINDOW);
  let span = (positions - oldest + SPANS * CHUNK - 1u) / (SPANS * CHUNK) * CHUNK;
  let begin = oldest + group.z * span;
  if (begin >= positions) {
    return;
  }
  let end = min(begin + span, positions);

  for (var d = lane; d < value_quads; d += WORKGROUP_SIZE) {
    mixed[d] = vec4<f32>(0.0);
  }
  var highest = LOWEST;
  var weight = 0.0;
  if (SINKS == 1u && group.z == 0u) {
    highest = sinks[head];
    weight = 1.0;
  }
  for (var start = begin; start < end; start += CHUNK) {
    let count = min(CHUNK, end - start);
    var own_highest = LOWEST;
    for (var i = lane; i < count; i += WORKGROUP_SIZE) {
      let k = cache + get_slot(start + i) * row_words;
      var sum = 0.0;
      for (var d = 0u; d < quads; d++) {
        sum += dot(qkv[q + d], read_key(k, d));
      }
      scores[i] = sum * SCALE;
      own_highest = max(own_highest, sum * SCALE);
    }
    let new_highest = max(highest, reduce_max(own_highest, lane));
    var own_weight = 0.0;
    for (var i = lane; i < count; i += WORKGROUP_SIZE) {
      scores[i] = exp(scores[i] - new_highest);
      own_weight += scores[i];
    }
    let fade = exp(highest - new_highest);
    weight = weight * fade + reduce_sum(vec4<f32>(own_weight, 0.0, 0.0, 0.0), lane).x;
    highest = new_highest;
    workgroupBarrier(); // every lane's scores are there
    for (var d = lane; d < value_quads; d += WORKGROUP_SIZE) {
      var sum = mixed[d] * fade;
      for (var i = 0u; i < count; i++) {
        sum += scores[i] * read_value(cache + get_slot(start + i) * row_words, d);
      }
      mixed[d] = sum;
    }
    workgroupBarrier(); // scores may be written again
  }
  let at = ((group.y * HEADS + head) * SPANS + group.z) * (value_quads + select(0u, 1u, SPANS > 1u));
  let divisor = select(1.0, weight, SPANS == 1u);
  for (var d = lane; d < value_quads; d += WORKGROUP_SIZE) {
    out[at + d] = mixed[d] / divisor;
  }
  if (SPANS > 1u && lane == 0u) {
    let spans = (positions - oldest + span - 1u) / span;
    out[at + value_quads] = vec4<f32>(highest, weight, f32(spans), 0.0);
  }
}
