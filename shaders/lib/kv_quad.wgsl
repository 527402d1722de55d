// Keys and values of four positions by one load a lane, given to all lanes of the quad: every lane has them in rising order.
// Needs subgroups of any size. `at`: first element of each position's row in its cache.

fn read_keys(at: vec4<u32>, quad: u32, lane: u32) -> mat4x4<f32> {
  let own = read_key(at[lane & 3u], quad);
  return mat4x4<f32>(quadBroadcast(own, 0u), quadBroadcast(own, 1u), quadBroadcast(own, 2u), quadBroadcast(own, 3u));
}

fn read_values(at: vec4<u32>, quad: u32, lane: u32) -> mat4x4<f32> {
  let own = read_value(at[lane & 3u], quad);
  return mat4x4<f32>(quadBroadcast(own, 0u), quadBroadcast(own, 1u), quadBroadcast(own, 2u), quadBroadcast(own, 3u));
}
