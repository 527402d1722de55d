// y[row, r] (+)= SCALE * (sum over c of W[r, c] * x[row, c] + bias[r])
//
// Bindings: W quantised in place; bias [y_stride] f32 (unread without); x [rows, cols] f32, or what attention leaves of it span by
// span (lib/x_spans.wgsl); y [rows, y_stride] f32, written at column y_offset.
// Grid: (rows of x, ceil(rows of W / (4 * TILES))), the second over y and z: a dimension has its limit. Rows of x come fastest, so
// that what reads the same weights runs together. A workgroup makes 4 * TILES results; its lanes share the columns, so the order
// of a sum depends on WORKGROUP_SIZE and on nothing else: not on the number of rows, nor on what is resident.
// Assumes cols % 32 == 0.
override WORKGROUP_SIZE: u32;
override TILES: u32;
// 1: add to y, the residual stream.
override ACCUMULATE: u32;
// 1: there is a bias.
override BIAS: u32;
override SCALE: f32;

const NO_SHADOW = 0xffffffffu;

struct Shape {
  rows: u32,
  blocks_per_row: u32,
  y_offset: u32,
  y_stride: u32,
  moe_layer: u32, // the MoE layer at or behind this product
  shadow_offset: u32, // added to the place of y in shadow; NO_SHADOW: dead then
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read> control: array<u32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn matvec(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let mode = get_attention_mode(control[FAULT_LAYER], control[RUN_AHEAD], shape.moe_layer);
  if (mode == DEAD || (mode == SHADOW && shape.shadow_offset == NO_SHADOW)) {
    return;
  }
  open_x(group.x, 0u, lane);
  let y_base = select(0u, shape.shadow_offset, mode == SHADOW);
  let blocks = shape.blocks_per_row;
  let all_blocks = shape.rows * blocks;
  for (var tile = 0u; tile < TILES; tile += SPAN) {
    let first = ((group.z * groups.y + group.y) * TILES + tile) * 4u;
    if (first >= shape.rows) {
      break;
    }
    var sums = mat4x4<f32>();
    for (var block = lane; block < blocks; block += WORKGROUP_SIZE) {
      let at = (group.x * blocks + block) * 8u;
      // One by one: software adapters pay for an index that is not a constant.
      var xs = stage_block(array<vec4<f32>, 8>(
        read_x(at), read_x(at + 1u), read_x(at + 2u), read_x(at + 3u),
        read_x(at + 4u), read_x(at + 5u), read_x(at + 6u), read_x(at + 7u),
      ));
      for (var i = 0u; i < 4u * SPAN; i++) {
        // The last tiles may hang over: their extra rows repeat the last one and are not stored.
        let row = min(first + i, shape.rows - 1u);
        sums = turn_sums(sums, sums[0].x + block_dot(0u, all_blocks, row * blocks + block, &xs));
      }
    }
    for (var r = first; r < min(first + 4u * SPAN, shape.rows); r += 4u) {
      let total = reduce_sum(sums[0], lane);
      sums = turn_quads(sums);
      if (lane == 0u) {
        let out = y_base + group.x * shape.y_stride + shape.y_offset + r;
        for (var i = 0u; i < min(4u, shape.rows - r); i++) {
          var value = total[i];
          if (BIAS == 1u) {
            value += bias[shape.y_offset + r + i];
          }
          y[out + i] = select(0.0, y[out + i], ACCUMULATE == 1u) + SCALE * value;
        }
      }
    }
  }
}
