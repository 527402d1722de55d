// Scale and minimum of a block of 32 in Q4_K and Q5_K. `header` holds, for 8 blocks, the halves d and dmin, then a six-bit
// scale and minimum for each: those of blocks 0 to 3 in the low bits of words y and z, those of blocks 4 to 7 in word w and
// in the high bits of y and z.
fn k_scale_and_minimum(header: vec4<u32>, block: u32) -> vec2<f32> {
  let shift = (block & 3u) * 8u;
  let bytes = (vec3<u32>(header.yzw) >> vec3<u32>(shift)) & vec3<u32>(0xffu);
  let low = bytes.xy & vec2<u32>(63u);
  let high = vec2<u32>(bytes.z & 15u, bytes.z >> 4u) | ((bytes.xy >> vec2<u32>(6u)) << vec2<u32>(4u));
  return unpack2x16float(header.x) * vec2<f32>(select(low, high, (block & 4u) != 0u));
}
