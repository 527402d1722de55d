// Choices of one expert, of up to TILE_TOKENS rows, that are computed together.
const TILE_TOKENS = 16u;

struct Tile {
  expert: u32,
  first: u32, // in order
  count: u32, // 0: no tile
}
