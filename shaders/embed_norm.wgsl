// residual[row, :] = EMBEDDING_SCALE * E[tokens[row], :];  x[row, :] = norm(residual[row, :])
// Behind a token of the same submission that has faulted nothing of it is touched, and what follows is told so (ENDED).
//
// Bindings: E [vocabulary part, hidden] quantised in place; tokens [rows] u32; norm [1 or 2, hidden] f32: weights, and
// of a LayerNorm biases;
// residual, x [rows, hidden] f32; control.
// Grid: (rows). One workgroup per row. A large table lies in several buffers: a dispatch makes the rows whose token it has.
override WORKGROUP_SIZE: u32;
override HIDDEN: u32;
override EPSILON: f32;
// 0: RMSNorm, 1: LayerNorm.
override LAYER_NORM: u32;
override EMBEDDING_SCALE: f32;

struct Part {
  first_token: u32,
  tokens: u32,
}

@group(0) @binding(0) var<uniform> part: Part;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> tokens: array<u32>;
@group(0) @binding(3) var<storage, read> norm: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> residual: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> control: array<atomic<u32>>;

var<workgroup> fault: u32;

fn read_norm(i: u32) -> vec4<f32> {
  return norm[i];
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn embed_norm(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (lane == 0u) {
    fault = atomicLoad(&control[FAULT_LAYER]);
  }
  if (workgroupUniformLoad(&fault) != NO_FAULT) {
    if (lane == 0u) {
      atomicStore(&control[FAULT_LAYER], ENDED);
    }
    return;
  }
  let quads = HIDDEN / 4u;
  let token = tokens[group.x] - part.first_token; // wraps around below the part
  if (token >= part.tokens) {
    return;
  }
  let out = group.x * quads;
  var own_sum = 0.0;
  for (var i = lane; i < quads; i += WORKGROUP_SIZE) {
    let value = EMBEDDING_SCALE * block_quad(0u, part.tokens * HIDDEN / 32u, token * (HIDDEN / 32u) + i / 8u, i % 8u);
    residual[out + i] = value;
    own_sum += dot(value, vec4<f32>(1.0));
  }
  write_norm(out, out, own_sum, lane);
}
