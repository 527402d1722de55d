// Activations of four tokens by one load a lane, passed around the quad of lanes: column j of a lane is its own token's
// number xor j, so that each pass is a swap. Needs subgroups of any size.

// Which of four tokens the columns are.
fn get_columns(lane: u32) -> vec4<u32> {
  return vec4<u32>(lane & 3u) ^ vec4<u32>(0u, 1u, 2u, 3u);
}

// A quad of activations of each column's token, these starting at `at` in x.
fn read_four(at: vec4<u32>, quad: u32) -> mat4x4<f32> {
  let own = x[at.x + quad];
  return mat4x4<f32>(own, quadSwapX(own), quadSwapY(own), quadSwapDiagonal(own));
}
