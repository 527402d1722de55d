// Keys and values of four positions, read by every lane itself: all lanes read the same places, which caches serve.
// `at`: first element of each position's row in its cache.

fn read_keys(at: vec4<u32>, quad: u32, lane: u32) -> mat4x4<f32> {
  return mat4x4<f32>(read_key(at.x, quad), read_key(at.y, quad), read_key(at.z, quad), read_key(at.w, quad));
}

fn read_values(at: vec4<u32>, quad: u32, lane: u32) -> mat4x4<f32> {
  return mat4x4<f32>(read_value(at.x, quad), read_value(at.y, quad), read_value(at.z, quad), read_value(at.w, quad));
}
