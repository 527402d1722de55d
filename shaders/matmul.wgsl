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
  let first_row = (group.x * WORKGROUP_SIZE + lane) * 4u;
  // Tokens that hang over repeat the last one and are not stored.
  let first = group.y * TILE_TOKENS;
  let last = vec4<u32>(tokens - 1u);
  let four = first + get_columns(lane);
  let quads = shape.blocks_per_row * 8u;
  var sums = multiply_tile(
    0u, shape.rows, shape.blocks_per_row, first_row,
    min(four, last) * quads, min(four + 4u, last) * quads, min(four + 8u, last) * quads, min(four + 12u, last) * quads,
    first + 8u < tokens,
  );
  if (first_row < shape.rows) {
    // One sum after the other in the first place, so that one copy of what stores it is compiled.
    for (var i = 0u; i < 16u; i += 4u) {
      for (var j = 0u; j < 4u; j++) {
        store(first_row, four[j] + i, tokens, sums.a[j]);
      }
      sums.a = sums.b;
      sums.b = sums.c;
      sums.c = sums.d;
    }
  }
}
