// act[row, :] = silu(G x[row]) * (U x[row]), of a dense MLP or a shared expert; SCALED: times sigmoid(s . x[row])
// FACTOR: act[row, :] *= F x[row], behind that; weights [width, hidden]: F.
//
// Bindings: weights [2 * width, hidden]: G, then U, quantised in place; x [2, CAPACITY, hidden] f32: exact, shadow;
// scale [hidden] f32 (unread without); act [rows, width] f32.
// Grid: (rows, ceil(width / (4 * TILES))). As in matvec, the order of a sum depends on WORKGROUP_SIZE and on nothing else.
// Assumes hidden % 32 == 0.
override WORKGROUP_SIZE: u32;
override TILES: u32;
override CAPACITY: u32;
override SCALED: u32;
// 1: multiplies what is there.
override FACTOR: u32;

struct Shape {
  width: u32,
  blocks_per_row: u32,
  moe_layer: u32, // the MoE layer at or behind it
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> scale: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> act: array<f32>;
@group(0) @binding(5) var<storage, read> control: array<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn mlp_gate_up(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let mode = get_attention_mode(control[FAULT_LAYER], control[RUN_AHEAD], shape.moe_layer);
  if (mode == DEAD) {
    return;
  }
  let width = shape.width;
  let blocks = shape.blocks_per_row;
  let x_row = (select(0u, CAPACITY, mode == SHADOW) + group.x) * blocks * 8u;
  var factor = 1.0;
  if (SCALED == 1u) {
    var sum = 0.0;
    for (var i = lane; i < blocks * 8u; i += WORKGROUP_SIZE) {
      sum += dot(scale[i], x[x_row + i]);
    }
    factor = 1.0 / (1.0 + exp(-reduce_sum(vec4<f32>(sum, 0.0, 0.0, 0.0), lane).x));
  }
  for (var tile = 0u; tile < TILES; tile += SPAN) {
    let first = (group.y * TILES + tile) * 4u;
    if (first >= width) {
      break;
    }
    var gate = mat4x4<f32>();
    var up = mat4x4<f32>();
    for (var block = lane; block < blocks; block += WORKGROUP_SIZE) {
      let at = x_row + block * 8u;
      // One by one: software adapters pay for an index that is not a constant.
      var xs = stage_block(array<vec4<f32>, 8>(
        x[at], x[at + 1u], x[at + 2u], x[at + 3u],
        x[at + 4u], x[at + 5u], x[at + 6u], x[at + 7u],
      ));
      // Gate, then up, each in the gate's place, so that one copy of the product is compiled.
      for (var matrix = 0u; matrix < 2u - FACTOR; matrix++) {
        for (var i = 0u; i < 4u * SPAN; i++) {
          let row = matrix * width + min(first + i, width - 1u);
          gate = turn_sums(gate, gate[0].x + block_dot(0u, (2u - FACTOR) * width * blocks, row * blocks + block, &xs));
        }
        if (FACTOR == 0u) {
          let other = up;
          up = gate;
          gate = other;
        }
      }
    }
    for (var r = first; r < min(first + 4u * SPAN, width); r += 4u) {
      let g = reduce_sum(gate[0], lane);
      var u = vec4<f32>(1.0);
      if (FACTOR == 0u) {
        u = reduce_sum(up[0], lane);
      }
      gate = turn_quads(gate);
      up = turn_quads(up);
      if (lane == 0u) {
        let value = factor * g / (1.0 + exp(-g)) * u;
        for (var i = 0u; i < min(4u, width - r); i++) {
          let at = group.x * width + r + i;
          if (FACTOR == 1u) {
            act[at] *= g[i];
          } else {
            act[at] = value[i];
          }
        }
      }
    }
  }
}
