// q = rope(clip(norm(q))), k = rope(clip(norm(k))), v = clip(v); k and v go to the KV cache at the row's position.
// NORM, an RMSNorm: 0 none; 1 over the whole projected width (OLMoE); 2 over each head; 3 over each head, its weights behind
// the rotation (which keeps a head's length, so the root mean square may be taken before it).
// Rope turns the first ROPE_DIMS dimensions of a head: d with d + ROPE_DIMS / 2, or INTERLEAVED 2d with 2d + 1.
//
// Bindings: qkv [rows, Q + 2 KV] f32, its q and k parts rewritten in place; norms f32: q's, then k's, [Q + KV] or [2 HEAD_DIM]
// (unread without); rope [context, ROPE_DIMS / 2] of (cos, sin); k_cache, v_cache [kv heads, CACHE_LENGTH] rows of
// HEAD_DIM values in units of lib/kv_*.wgsl, a position p at p % CACHE_LENGTH.
// Grid: (rows). One workgroup per row.
override WORKGROUP_SIZE: u32;
override HEADS: u32;
override KV_HEADS: u32;
override HEAD_DIM: u32;
override CACHE_LENGTH: u32;
override EPSILON: f32;
override NORM: u32;
// Clamp to [-CLIP, CLIP]; the largest f32 where the model has none.
override CLIP: f32;
override ROPE_DIMS: u32;
override INTERLEAVED: u32;

const NORM_FULL = 1u;
const NORM_HEAD = 2u;
const NORM_HEAD_AFTER = 3u;

@group(0) @binding(0) var<uniform> moe_layer: u32;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read_write> qkv: array<f32>;
@group(0) @binding(3) var<storage, read> norms: array<f32>;
@group(0) @binding(4) var<storage, read> rope: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> k_cache: array<KvWord>;
@group(0) @binding(6) var<storage, read_write> v_cache: array<KvWord>;
@group(0) @binding(7) var<storage, read> control: array<u32>;

// 1 / rms of every head of q, then of k.
var<workgroup> head_scales: array<f32, HEADS + KV_HEADS>;

fn clip(value: vec2<f32>) -> vec2<f32> {
  return clamp(value, vec2<f32>(-CLIP), vec2<f32>(CLIP));
}

// The two dimensions of a head that make a pair; those behind the rotating ones stay as they are.
fn get_pair(pair: u32) -> vec2<u32> {
  let turning = ROPE_DIMS / 2u;
  if (pair >= turning || INTERLEAVED == 1u) {
    return vec2<u32>(2u * pair, 2u * pair + 1u);
  }
  return vec2<u32>(pair, pair + turning);
}

// One pair of a head: normed, clipped, turned. `norm_at` is the place of the head's norm weights.
fn prepare(raw: vec2<f32>, dims: vec2<u32>, pair: u32, scale: f32, norm_at: u32, position: u32) -> vec2<f32> {
  var value = raw;
  if (NORM == NORM_FULL || NORM == NORM_HEAD) {
    value *= scale * vec2<f32>(norms[norm_at + dims.x], norms[norm_at + dims.y]);
  }
  value = clip(value);
  if (pair < ROPE_DIMS / 2u) {
    let turn = rope[position * (ROPE_DIMS / 2u) + pair];
    value = vec2<f32>(value.x * turn.x - value.y * turn.y, value.y * turn.x + value.x * turn.y);
  }
  if (NORM == NORM_HEAD_AFTER) {
    value *= scale * vec2<f32>(norms[norm_at + dims.x], norms[norm_at + dims.y]);
  }
  return value;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn qk_norm_rope(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (get_attention_mode(control[FAULT_LAYER], control[RUN_AHEAD], moe_layer) == DEAD) {
    return;
  }
  let q_width = HEADS * HEAD_DIM;
  let kv_width = KV_HEADS * HEAD_DIM;
  let half_dim = HEAD_DIM / 2u;
  let row = group.x * (q_width + 2u * kv_width);
  let position = step.position + group.x;

  var scale = vec2<f32>(1.0);
  if (NORM == NORM_FULL) {
    var squares = vec4<f32>(0.0);
    for (var i = lane; i < q_width; i += WORKGROUP_SIZE) {
      squares.x += qkv[row + i] * qkv[row + i];
    }
    for (var i = lane; i < kv_width; i += WORKGROUP_SIZE) {
      squares.y += qkv[row + q_width + i] * qkv[row + q_width + i];
    }
    let mean = reduce_sum(squares, lane).xy / vec2<f32>(f32(q_width), f32(kv_width));
    scale = inverseSqrt(mean + EPSILON);
  }
  if (NORM == NORM_HEAD || NORM == NORM_HEAD_AFTER) {
    for (var head = lane; head < HEADS + KV_HEADS; head += WORKGROUP_SIZE) {
      var squares = 0.0;
      for (var i = 0u; i < HEAD_DIM; i++) {
        let value = qkv[row + head * HEAD_DIM + i];
        squares += value * value;
      }
      head_scales[head] = inverseSqrt(squares / f32(HEAD_DIM) + EPSILON);
    }
    workgroupBarrier();
  }

  for (var i = lane; i < (q_width + kv_width) / 2u; i += WORKGROUP_SIZE) {
    let head = i / half_dim;
    let pair = i % half_dim;
    let dims = get_pair(pair);
    let at = row + head * HEAD_DIM;
    let is_key = head >= HEADS;
    let own_scale = select(head_scales[head], select(scale.x, scale.y, is_key), NORM < NORM_HEAD);
    let norm_at = select(select(0u, HEAD_DIM, is_key), head * HEAD_DIM, NORM == NORM_FULL);
    let value = prepare(vec2<f32>(qkv[at + dims.x], qkv[at + dims.y]), dims, pair, own_scale, norm_at, position);
    qkv[at + dims.x] = value.x;
    qkv[at + dims.y] = value.y;
  }
  storageBarrier(); // the row's keys are there, whoever made them

  let row_words = get_row_words(HEAD_DIM / 4u);
  let units = row_words / KV_WORDS;
  for (var i = lane; i < KV_HEADS * units; i += WORKGROUP_SIZE) {
    let head = i / units;
    let first = i % units * KV_QUADS;
    var keys = array<vec4<f32>, KV_QUADS>();
    var values = array<vec4<f32>, KV_QUADS>();
    for (var j = 0u; j < min(KV_QUADS, HEAD_DIM / 4u - first); j++) {
      let k = row + q_width + head * HEAD_DIM + (first + j) * 4u;
      let v = k + kv_width;
      keys[j] = vec4<f32>(qkv[k], qkv[k + 1u], qkv[k + 2u], qkv[k + 3u]);
      values[j] = clamp(vec4<f32>(qkv[v], qkv[v + 1u], qkv[v + 2u], qkv[v + 3u]), vec4<f32>(-CLIP), vec4<f32>(CLIP));
    }
    let key_words = pack_unit(keys);
    let value_words = pack_unit(values);
    let to = (head * CACHE_LENGTH + position % CACHE_LENGTH) * row_words + i % units * KV_WORDS;
    for (var j = 0u; j < KV_WORDS; j++) {
      k_cache[to + j] = key_words[j];
      v_cache[to + j] = value_words[j];
    }
  }
}
