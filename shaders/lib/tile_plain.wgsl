// Activations of four tokens, read by every lane itself: all lanes read the same place, which caches serve.

// Which of four tokens the columns are.
fn get_columns(lane: u32) -> vec4<u32> {
  return vec4<u32>(0u, 1u, 2u, 3u);
}

// A quad of activations of each column's token, these starting at `at` in x.
fn read_four(at: vec4<u32>, quad: u32) -> mat4x4<f32> {
  return mat4x4<f32>(x[at.x + quad], x[at.y + quad], x[at.z + quad], x[at.w + quad]);
}
