// The 32 activations of a block rounded to signed bytes, four to a word, with their scale: largest magnitude / 127.
// Needs the language feature packed_4x8_integer_dot_product.
struct Staged {
  words: array<u32, 8>,
  sum: i32, // of the bytes
  scale: f32,
}

fn stage_block(x: array<vec4<f32>, 8>) -> Staged {
  let low = max(max(abs(x[0]), abs(x[1])), max(abs(x[2]), abs(x[3])));
  let high = max(max(abs(x[4]), abs(x[5])), max(abs(x[6]), abs(x[7])));
  let largest = max(low, high);
  let scale = max(max(largest.x, largest.y), max(largest.z, largest.w)) / 127.0;
  let inverse = select(0.0, 1.0 / scale, scale > 0.0);
  let words = array<u32, 8>(
    pack_bytes(x[0] * inverse), pack_bytes(x[1] * inverse), pack_bytes(x[2] * inverse), pack_bytes(x[3] * inverse),
    pack_bytes(x[4] * inverse), pack_bytes(x[5] * inverse), pack_bytes(x[6] * inverse), pack_bytes(x[7] * inverse),
  );
  var sum = dot4I8Packed(words[0], 0x01010101u) + dot4I8Packed(words[1], 0x01010101u);
  sum += dot4I8Packed(words[2], 0x01010101u) + dot4I8Packed(words[3], 0x01010101u);
  sum += dot4I8Packed(words[4], 0x01010101u) + dot4I8Packed(words[5], 0x01010101u);
  sum += dot4I8Packed(words[6], 0x01010101u) + dot4I8Packed(words[7], 0x01010101u);
  return Staged(words, sum, scale);
}

fn pack_bytes(values: vec4<f32>) -> u32 {
  return pack4xI8Clamp(vec4<i32>(round(values)));
}
