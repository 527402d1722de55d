// The 32 activations of a block rounded to halves, over the power of two of the largest: none of them overflows. Needs the
// feature shader-f16.
struct Staged {
  quads: array<vec4<f16>, 8>,
  scale: f32,
}

fn stage_block(x: array<vec4<f32>, 8>) -> Staged {
  let low = max(max(abs(x[0]), abs(x[1])), max(abs(x[2]), abs(x[3])));
  let high = max(max(abs(x[4]), abs(x[5])), max(abs(x[6]), abs(x[7])));
  let largest = max(low, high);
  let exponent = bitcast<u32>(max(max(largest.x, largest.y), max(largest.z, largest.w))) & 0x7f800000u;
  // 2^-e of 2^e, and 0 of 0.
  let inverse = select(0.0, bitcast<f32>(0x7f000000u - exponent), exponent > 0u);
  return Staged(
    array<vec4<f16>, 8>(
      vec4<f16>(x[0] * inverse), vec4<f16>(x[1] * inverse), vec4<f16>(x[2] * inverse), vec4<f16>(x[3] * inverse),
      vec4<f16>(x[4] * inverse), vec4<f16>(x[5] * inverse), vec4<f16>(x[6] * inverse), vec4<f16>(x[7] * inverse),
    ),
    bitcast<f32>(exponent),
  );
}

fn add_halves(products: vec4<f16>) -> f32 {
  return dot(vec4<f32>(products), vec4<f32>(1.0));
}
