// Of a row of projections [heads, NOPE + ROPE_DIMS], latent [RANK], key [ROPE_DIMS] (multi-head latent attention, DeepSeek-V2,
// arXiv 2405.04434): cache[position] = rmsnorm(latent), rope(key); queries[row, h, RANK ..] = rope of a head's last ROPE_DIMS.
// What the heads multiply with the latent comes to the front of queries by head_matvec.
//
// Bindings: projections [rows, heads * (NOPE + ROPE_DIMS) + RANK + ROPE_DIMS] f32; norm_weights [RANK] f32; rope
// [context, ROPE_DIMS / 2] of (cos, sin); cache [CACHE_LENGTH] rows of RANK + ROPE_DIMS values in units of lib/kv_*.wgsl; queries [rows, heads, RANK + ROPE_DIMS].
// Grid: (rows). One workgroup per row.
override WORKGROUP_SIZE: u32;
override HEADS: u32;
override RANK: u32;
override NOPE: u32;
override ROPE_DIMS: u32;
override INTERLEAVED: u32;
override CACHE_LENGTH: u32;
override EPSILON: f32;

@group(0) @binding(0) var<uniform> moe_layer: u32;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> projections: array<f32>;
@group(0) @binding(3) var<storage, read> norm_weights: array<f32>;
@group(0) @binding(4) var<storage, read> rope: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> cache: array<KvWord>;
@group(0) @binding(6) var<storage, read_write> queries: array<f32>;
@group(0) @binding(7) var<storage, read> control: array<u32>;

// The two dimensions that turn together.
fn get_pair(pair: u32) -> vec2<u32> {
  if (INTERLEAVED == 1u) {
    return vec2<u32>(2u * pair, 2u * pair + 1u);
  }
  return vec2<u32>(pair, pair + ROPE_DIMS / 2u);
}

fn turn(at: u32, dims: vec2<u32>, by: vec2<f32>) -> vec2<f32> {
  let value = vec2<f32>(projections[at + dims.x], projections[at + dims.y]);
  return vec2<f32>(value.x * by.x - value.y * by.y, value.y * by.x + value.x * by.y);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn latent_rope(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (get_attention_mode(control[FAULT_LAYER], control[RUN_AHEAD], moe_layer) == DEAD) {
    return;
  }
  let pairs = ROPE_DIMS / 2u;
  let head_width = NOPE + ROPE_DIMS;
  let row = group.x * (HEADS * head_width + RANK + ROPE_DIMS);
  let latent = row + HEADS * head_width;
  let position = step.position + group.x;

  var squares = 0.0;
  for (var i = lane; i < RANK; i += WORKGROUP_SIZE) {
    squares += projections[latent + i] * projections[latent + i];
  }
  let sum = reduce_sum(vec4<f32>(squares, 0.0, 0.0, 0.0), lane).x;
  let scale = inverseSqrt(sum / f32(RANK) + EPSILON);
  // Units of the cache, each value made where it is stored: a pair's two halves may lie in two units.
  let quads = (RANK + ROPE_DIMS) / 4u;
  let row_words = get_row_words(quads);
  for (var unit = lane; unit < row_words / KV_WORDS; unit += WORKGROUP_SIZE) {
    var values = array<vec4<f32>, KV_QUADS>();
    for (var j = 0u; j < min(KV_QUADS, quads - unit * KV_QUADS); j++) {
      let first = (unit * KV_QUADS + j) * 4u;
      var quad = vec4<f32>();
      for (var i = first; i < first + 4u; i++) {
        var value = 0.0;
        if (i < RANK) {
          value = projections[latent + i] * scale * norm_weights[i];
        } else {
          let pair = select((i - RANK) % pairs, (i - RANK) / 2u, INTERLEAVED == 1u);
          let dims = get_pair(pair);
          let key = turn(latent + RANK, dims, rope[position * pairs + pair]);
          value = select(key.y, key.x, i - RANK == dims.x);
        }
        quad = vec4<f32>(quad.yzw, value);
      }
      values[j] = quad;
    }
    let words = pack_unit(values);
    let to = position % CACHE_LENGTH * row_words + unit * KV_WORDS;
    for (var j = 0u; j < KV_WORDS; j++) {
      cache[to + j] = words[j];
    }
  }
  for (var i = lane; i < HEADS * pairs; i += WORKGROUP_SIZE) {
    let head = i / pairs;
    let pair = i % pairs;
    let dims = get_pair(pair);
    let query = turn(row + head * head_width + NOPE, dims, rope[position * pairs + pair]);
    let to = (group.x * HEADS + head) * (RANK + ROPE_DIMS) + RANK;
    queries[to + dims.x] = query.x;
    queries[to + dims.y] = query.y;
  }
}
