// y[token, r] (+)= scale * (sum over c of W[r, c] * x[token, c] + bias[r]), for many tokens: a weight is dequantised once for 16
//
// Bindings: W quantised in place; bias [y_stride] f32 (unread without); x [tokens, cols] f32; y [tokens, y_stride] f32, written
// at column y_offset.
// Grid: (ceil(rows of W / (4 * WORKGROUP_SIZE)), ceil(tokens / 16)). Tiles of lib/tile.wgsl: a sum runs over rising columns,
// so a token's result depends neither on the other tokens nor on the workgroup. Never runs behind a fault.
// Assumes cols % 32 == 0, x not empty.
override WORKGROUP_SIZE: u32;

// That of matvec, whose words for runs behind a fault mean nothing here.
struct Shape {
  rows: u32,
  blocks_per_row: u32,
  y_offset: u32,
  y_stride: u32,
  moe_layer: u32,
  shadow_offset: u32,
  of_head: u32, // 1: tokens are the rows that get logits, not those of the pass
  accumulate: u32, // 1: add to y, the residual stream
  has_bias: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;

// Results of one token, of four matrix rows.
fn store(first_row: u32, token: u32, tokens: u32, sum: vec4<f32>) {
  if (token < tokens) {
    let column = shape.y_offset + first_row;
    let out = token * shape.y_stride + column;
    var values = sum;
    for (var i = 0u; i < min(4u, shape.rows - first_row); i++) {
      var value = values.x;
      if (shape.has_bias == 1u) {
        value += bias[column + i];
      }
      y[out + i] = select(0.0, y[out + i], shape.accumulate == 1u) + shape.scale * value;
      values = values.yzwx;
    }
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn matmul(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let tokens = select(step.rows, step.logit_rows, shape.of_head == 1u);
  let blocks = shape.blocks_per_row;
  let all_blocks = shape.rows * blocks;
  let first_row = (group.x * WORKGROUP_SIZE + lane) * 4u;
  // Rows and tokens that hang over repeat the last one and are not stored.
  let r = min(vec4<u32>(first_row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(shape.rows - 1u)) * blocks;
  let first = group.y * TILE_TOKENS;
  let last = vec4<u32>(tokens - 1u);
  let four = first + get_columns(lane);
  let x0 = min(four, last) * blocks * 8u;
  let x1 = min(four + 4u, last) * blocks * 8u;
  let x2 = min(four + 8u, last) * blocks * 8u;
  let x3 = min(four + 12u, last) * blocks * 8u;
  var sum0 = mat4x4<f32>();
  var sum1 = mat4x4<f32>();
  var sum2 = mat4x4<f32>();
  var sum3 = mat4x4<f32>();
  for (var block = 0u; block < blocks; block++) {
    let opened = open_blocks(0u, all_blocks, r + block);
    for (var quad = 0u; quad < 8u; quad++) {
      let w = open_quads(0u, all_blocks, r + block, quad, opened);
      let at = block * 8u + quad;
      sum0 = multiply_add(sum0, w, read_four(x0, at));
      sum1 = multiply_add(sum1, w, read_four(x1, at));
      if (first + 8u < tokens) {
        sum2 = multiply_add(sum2, w, read_four(x2, at));
        sum3 = multiply_add(sum3, w, read_four(x3, at));
      }
    }
  }
  if (first_row < shape.rows) {
    // One sum after the other in the first place, so that one copy of what stores it is compiled.
    for (var i = 0u; i < 16u; i += 4u) {
      for (var j = 0u; j < 4u; j++) {
        store(first_row, four[j] + i, tokens, sum0[j]);
      }
      sum0 = sum1;
      sum1 = sum2;
      sum2 = sum3;
    }
  }
}
