// order = choices (row * TOP_K + rank) of one MoE layer, grouped by expert; tiles = groups cut into runs of up to 16 choices
//
// A counting sort by one workgroup. Where a choice lies within its expert's group is left to chance: nothing computed depends
// on it. Tiles behind the last have a count of 0.
// A place without an expert is no choice.
// Bindings: route_ids [MoE layers, rows, TOP_K]; order [rows * TOP_K] u32; tiles [get_tiles(rows)] of {expert, first, count}.
// Grid: (1).
override WORKGROUP_SIZE: u32;
override EXPERTS: u32;
override TOP_K: u32;

@group(0) @binding(0) var<uniform> moe_layer: u32;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> route_ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> order: array<u32>;
@group(0) @binding(4) var<storage, read_write> tiles: array<Tile>;

var<workgroup> counts: array<atomic<u32>, EXPERTS>;
// Next free place of each expert's group.
var<workgroup> places: array<atomic<u32>, EXPERTS>;
var<workgroup> used_tiles: u32;

@compute @workgroup_size(WORKGROUP_SIZE)
fn route_order(@builtin(local_invocation_index) lane: u32) {
  let choices = step.rows * TOP_K;
  let ids = moe_layer * choices;
  for (var i = lane; i < choices; i += WORKGROUP_SIZE) {
    if (route_ids[ids + i] != NO_EXPERT) {
      atomicAdd(&counts[route_ids[ids + i]], 1u);
    }
  }
  workgroupBarrier();
  if (lane == 0u) {
    var first = 0u;
    var tile = 0u;
    for (var expert = 0u; expert < EXPERTS; expert++) {
      let count = atomicLoad(&counts[expert]);
      atomicStore(&places[expert], first);
      for (var at = 0u; at < count; at += TILE_TOKENS) {
        tiles[tile] = Tile(expert, first + at, min(TILE_TOKENS, count - at));
        tile++;
      }
      first += count;
    }
    used_tiles = tile;
  }
  let used = workgroupUniformLoad(&used_tiles);
  for (var tile = used + lane; tile < choices / TILE_TOKENS + min(choices, EXPERTS); tile += WORKGROUP_SIZE) {
    tiles[tile].count = 0u;
  }
  for (var i = lane; i < choices; i += WORKGROUP_SIZE) {
    if (route_ids[ids + i] != NO_EXPERT) {
      order[atomicAdd(&places[route_ids[ids + i]], 1u)] = i;
    }
  }
}
