// y[row, h, r] = sum over c of W[h, r, c] * x[row, h, c]: a matrix for every head
//
// Bindings: W [heads, rows, cols] quantised in place; x f32: rows x_stride quads apart, heads x_head quads, or what
// attention leaves of it span by span (lib/x_spans.wgsl); y f32: rows y_stride values apart, heads y_head values.
// Grid: (rows of x, ceil(rows of W / (4 * TILES)), heads). As in matvec, the order of a sum depends on WORKGROUP_SIZE and on
// nothing else. Assumes cols % 32 == 0.
override WORKGROUP_SIZE: u32;
override TILES: u32;

struct Shape {
  rows: u32, // of a head's matrix
  blocks_per_row: u32,
  heads: u32,
  x_stride: u32,
  x_head: u32,
  y_stride: u32,
  y_head: u32,
  moe_layer: u32, // the MoE layer at or behind it
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read> control: array<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn head_matvec(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (get_attention_mode(control[FAULT_LAYER], control[RUN_AHEAD], shape.moe_layer) == DEAD) {
    return;
  }
  let blocks = shape.blocks_per_row;
  let all_blocks = shape.heads * shape.rows * blocks;
  let matrix = group.z * shape.rows;
  open_x(group.x, group.z, lane);
  let x_row = group.x * shape.x_stride + group.z * shape.x_head;
  let y_row = group.x * shape.y_stride + group.z * shape.y_head;
  for (var tile = 0u; tile < TILES; tile += SPAN) {
    let first = (group.y * TILES + tile) * 4u;
    if (first >= shape.rows) {
      break;
    }
    var sums = mat4x4<f32>();
    for (var block = lane; block < blocks; block += WORKGROUP_SIZE) {
      let at = x_row + block * 8u;
      // One by one: software adapters pay for an index that is not a constant.
      var xs = stage_block(array<vec4<f32>, 8>(
        read_x(at), read_x(at + 1u), read_x(at + 2u), read_x(at + 3u),
        read_x(at + 4u), read_x(at + 5u), read_x(at + 6u), read_x(at + 7u),
      ));
      for (var i = 0u; i < 4u * SPAN; i++) {
        // The last tiles may hang over: their extra rows repeat the last one and are not stored.
        let row = matrix + min(first + i, shape.rows - 1u);
        sums = turn_sums(sums, sums[0].x + block_dot(0u, all_blocks, row * blocks + block, &xs));
      }
    }
    for (var r = first; r < min(first + 4u * SPAN, shape.rows); r += 4u) {
      let total = reduce_sum(sums[0], lane);
      sums = turn_quads(sums);
      if (lane == 0u) {
        for (var i = 0u; i < min(4u, shape.rows - r); i++) {
          y[y_row + r + i] = total[i];
        }
      }
    }
  }
}
