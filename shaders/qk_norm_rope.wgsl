// q = rope(clip(norm(q))), k = rope(clip(norm(k))), v = clip(v); k and v go to the KV cache at the row's position.
// The norm, where there is one, is an RMSNorm over the whole projected width, before the head split (OLMoE).
// Rope is half-split (NEOX): dimension d of the first half turns with dimension d + HEAD_DIM / 2.
//
// Bindings: qkv [rows, Q + 2 KV] f32, its q part rewritten in place; norms [Q + KV] f32 (q's, then k's; unread without);
// rope [context, HEAD_DIM / 2] of (cos, sin); k_cache, v_cache [kv heads, context, HEAD_DIM] f32.
// Grid: (rows). One workgroup per row.
override WORKGROUP_SIZE: u32;
override HEADS: u32;
override KV_HEADS: u32;
override HEAD_DIM: u32;
override CONTEXT: u32;
override EPSILON: f32;
override USE_NORM: u32;
// Clamp to [-CLIP, CLIP]; the largest f32 where the model has none.
override CLIP: f32;

@group(0) @binding(0) var<uniform> moe_layer: u32;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read_write> qkv: array<f32>;
@group(0) @binding(3) var<storage, read> norms: array<f32>;
@group(0) @binding(4) var<storage, read> rope: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> k_cache: array<f32>;
@group(0) @binding(6) var<storage, read_write> v_cache: array<f32>;
@group(0) @binding(7) var<storage, read> control: array<u32>;

fn clip(value: f32) -> f32 {
  return clamp(value, -CLIP, CLIP);
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
  if (USE_NORM == 1u) {
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

  for (var pair = lane; pair < q_width / 2u; pair += WORKGROUP_SIZE) {
    let a = pair / half_dim * HEAD_DIM + pair % half_dim;
    let b = a + half_dim;
    var q = vec2<f32>(qkv[row + a], qkv[row + b]);
    if (USE_NORM == 1u) {
      q *= scale.x * vec2<f32>(norms[a], norms[b]);
    }
    q = vec2<f32>(clip(q.x), clip(q.y));
    let turn = rope[position * half_dim + pair % half_dim];
    qkv[row + a] = q.x * turn.x - q.y * turn.y;
    qkv[row + b] = q.y * turn.x + q.x * turn.y;
  }

  for (var pair = lane; pair < kv_width / 2u; pair += WORKGROUP_SIZE) {
    let head = pair / half_dim;
    let d = pair % half_dim;
    let a = head * HEAD_DIM + d;
    let b = a + half_dim;
    let k_row = row + q_width;
    var k = vec2<f32>(qkv[k_row + a], qkv[k_row + b]);
    if (USE_NORM == 1u) {
      k *= scale.y * vec2<f32>(norms[q_width + a], norms[q_width + b]);
    }
    k = vec2<f32>(clip(k.x), clip(k.y));
    let turn = rope[position * half_dim + d];
    let at = (head * CONTEXT + position) * HEAD_DIM + d;
    k_cache[at] = k.x * turn.x - k.y * turn.y;
    k_cache[at + half_dim] = k.y * turn.x + k.x * turn.y;
    let v_row = k_row + kv_width;
    v_cache[at] = clip(qkv[v_row + a]);
    v_cache[at + half_dim] = clip(qkv[v_row + b]);
  }
}
