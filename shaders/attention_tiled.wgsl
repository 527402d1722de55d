// out[row, head, :] = softmax over the last WINDOW positions p <= own of (q[row, head] . k[p] * SCALE), times v[p], for many
// rows. A sink is a logit that joins the softmax and is dropped behind it (gpt-oss).
//
// Online softmax over 16 positions at a time, f32 throughout (Dao et al., FlashAttention, arXiv 2205.14135). A lane has four
// rows of a head; keys and values are read once for the rows of four lanes. A row's sums run over rising positions, so they
// depend on its position alone. Never runs behind a fault.
// Bindings: qkv [rows, Q_STRIDE] f32 (q its first part); k_cache, v_cache [kv heads, CACHE_LENGTH] rows
// of HEAD_DIM values in units of lib/kv_*.wgsl;
// out [rows, heads, VALUE_DIM] f32, which also holds the sums on the way; sinks [heads] f32 (unread without).
// Grid: (heads, ceil(rows / (4 * WORKGROUP_SIZE))). Assumes HEAD_DIM % 4 == 0.
override WORKGROUP_SIZE: u32;
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

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k_cache: array<KvWord>;
@group(0) @binding(3) var<storage, read> v_cache: array<KvWord>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> sinks: array<f32>;

// Scores of four rows at a position; LOWEST where a row does not see it.
fn mask(scores: vec4<f32>, position: u32, own: vec4<u32>) -> vec4<f32> {
  let is_seen = (vec4<u32>(position) <= own) & (own - vec4<u32>(position) < vec4<u32>(WINDOW));
  return select(vec4<f32>(LOWEST), scores * SCALE, is_seen);
}

// As columns, of positions from `first` on.
fn mask_four(scores: mat4x4<f32>, first: u32, own: vec4<u32>) -> mat4x4<f32> {
  return mat4x4<f32>(
    mask(scores[0], first, own),
    mask(scores[1], first + 1u, own),
    mask(scores[2], first + 2u, own),
    mask(scores[3], first + 3u, own),
  );
}

// First element in the cache of four positions, those behind the last repeating it.
fn locate(cache: u32, first: u32, last: u32) -> vec4<u32> {
  var places = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last));
  if (RING == 1u) {
    places = places % vec4<u32>(CACHE_LENGTH);
  }
  return cache + places * get_row_words(HEAD_DIM / 4u);
}

fn get_highest(scores: mat4x4<f32>) -> vec4<f32> {
  return max(max(scores[0], scores[1]), max(scores[2], scores[3]));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_tiled(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let quads = HEAD_DIM / 4u;
  let value_quads = VALUE_DIM / 4u;
  let head = group.x;
  let first_row = (group.y * WORKGROUP_SIZE + lane) * 4u;
  let rows = first_row + vec4<u32>(0u, 1u, 2u, 3u);
  // Rows that hang over repeat the last one and are not stored.
  let r = min(rows, vec4<u32>(step.rows - 1u));
  let own = step.position + r;
  let q = r * (Q_STRIDE / 4u) + head * quads;
  let o = (r * HEADS + head) * value_quads;
  let cache = head / (HEADS / KV_HEADS) * CACHE_LENGTH * get_row_words(quads);
  // Positions that any row of the workgroup looks at.
  let end = step.position + min((group.y + 1u) * WORKGROUP_SIZE * 4u, step.rows);

  // Steps of 16 positions lie alike for every row, wherever its window begins.
  let oldest = step.position + group.y * WORKGROUP_SIZE * 4u + 1u;
  let begin = select(0u, oldest - WINDOW, oldest > WINDOW) / 16u * 16u;
  var highest = vec4<f32>(LOWEST);
  var weight = vec4<f32>(0.0);
  if (SINKS == 1u) {
    highest = vec4<f32>(sinks[head]);
    weight = vec4<f32>(1.0);
  }
  for (var start = begin; start < end; start += 16u) {
    let kv0 = locate(cache, start, end - 1u);
    let kv1 = locate(cache, start + 4u, end - 1u);
    let kv2 = locate(cache, start + 8u, end - 1u);
    let kv3 = locate(cache, start + 12u, end - 1u);
    var s0 = mat4x4<f32>();
    var s1 = mat4x4<f32>();
    var s2 = mat4x4<f32>();
    var s3 = mat4x4<f32>();
    for (var d = 0u; d < quads; d++) {
      let w = transpose(mat4x4<f32>(qkv[q.x + d], qkv[q.y + d], qkv[q.z + d], qkv[q.w + d]));
      s0 = multiply_add(s0, w, read_keys(kv0, d, lane));
      s1 = multiply_add(s1, w, read_keys(kv1, d, lane));
      s2 = multiply_add(s2, w, read_keys(kv2, d, lane));
      s3 = multiply_add(s3, w, read_keys(kv3, d, lane));
    }
    // Here and below the four take turns in the first place, so that one copy of what is done to them is compiled.
    var new_highest = highest;
    for (var i = 0u; i < 16u; i += 4u) {
      let masked = mask_four(s0, start + i, own);
      new_highest = max(new_highest, get_highest(masked));
      s0 = s1;
      s1 = s2;
      s2 = s3;
      s3 = masked;
    }
    // Exactly 1 for a row that looks at none of these positions, whatever exp makes of 0.
    let fade = select(exp(highest - new_highest), vec4<f32>(1.0), highest == new_highest);
    highest = new_highest;
    weight *= fade;
    for (var i = 0u; i < 4u; i++) {
      for (var j = 0u; j < 4u; j++) {
        // 0 for what is masked.
        let share = select(vec4<f32>(0.0), exp(s0[0] - highest), s0[0] > vec4<f32>(LOWEST));
        weight += share;
        s0 = mat4x4<f32>(s0[1], s0[2], s0[3], share);
      }
      // Columns become rows of the pass, so that they can take up values.
      let shares = transpose(s0);
      s0 = s1;
      s1 = s2;
      s2 = s3;
      s3 = shares;
    }
    let is_last = start + 16u >= end;
    let divisor = select(vec4<f32>(1.0), weight, is_last);
    for (var d = 0u; d < value_quads; d++) {
      var sum = mat4x4<f32>();
      if (start > begin) {
        sum = mat4x4<f32>(out[o.x + d] * fade.x, out[o.y + d] * fade.y, out[o.z + d] * fade.z, out[o.w + d] * fade.w);
      }
      sum = multiply_add(sum, read_values(kv0, d, lane), s0);
      sum = multiply_add(sum, read_values(kv1, d, lane), s1);
      sum = multiply_add(sum, read_values(kv2, d, lane), s2);
      sum = multiply_add(sum, read_values(kv3, d, lane), s3);
      // One by one: software adapters pay for an index that is not a constant.
      if (rows.x < step.rows) {
        out[o.x + d] = sum[0] / divisor.x;
      }
      if (rows.y < step.rows) {
        out[o.y + d] = sum[1] / divisor.y;
      }
      if (rows.z < step.rows) {
        out[o.z + d] = sum[2] / divisor.z;
      }
      if (rows.w < step.rows) {
        out[o.w + d] = sum[3] / divisor.w;
      }
    }
  }
}
