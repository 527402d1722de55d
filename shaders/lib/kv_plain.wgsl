// Keys and values of four positions, read by every lane itself: all lanes read the same places, which caches serve.
// `at`: first quad of each position in its cache.

fn read_keys(at: vec4<u32>, quad: u32, lane: u32) -> mat4x4<f32> {
  return mat4x4<f32>(k_cache[at.x + quad], k_cache[at.y + quad], k_cache[at.z + quad], k_cache[at.w + quad]);
}

fn read_values(at: vec4<u32>, quad: u32, lane: u32) -> mat4x4<f32> {
  return mat4x4<f32>(v_cache[at.x + quad], v_cache[at.y + quad], v_cache[at.z + quad], v_cache[at.w + quad]);
}
