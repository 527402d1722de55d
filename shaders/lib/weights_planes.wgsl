// Reads single values of a plane of packed weights. `first`: first vec4 of the plane; planes start at whole vec4s.

fn plane_word(first: u32, index: u32) -> u32 {
  return weights[first + (index >> 2u)][index & 3u];
}

fn plane_half(first: u32, index: u32) -> f32 {
  return unpack2x16float(plane_word(first, index >> 1u))[index & 1u];
}

// Two consecutive halves.
fn plane_two_halves(first: u32, index: u32) -> vec2<f32> {
  return unpack2x16float(plane_word(first, index));
}

// `index` counts pairs of bytes: the low one, the high one.
fn plane_two_bytes(first: u32, index: u32) -> vec2<u32> {
  let word = plane_word(first, index >> 1u) >> ((index & 1u) * 16u);
  return vec2<u32>(word & 0xffu, (word >> 8u) & 0xffu);
}

// vec4s of a plane of `words` words.
fn plane_quads(words: u32) -> u32 {
  return (words + 3u) >> 2u;
}

// Bits of four consecutive weights: `bits` each, at the same place in the four bytes of a word.
fn four_codes(word: u32, shift: u32, bits: u32) -> vec4<u32> {
  return (vec4<u32>(word >> shift) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>((1u << bits) - 1u);
}
