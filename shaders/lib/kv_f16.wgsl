// A KV cache of f16 in words that every WebGPU can pack; sums stay f32. See lib/kv_f32.wgsl.
alias KvWord = vec2<u32>;
const KV_QUADS = 1u;
const KV_WORDS = 1u;

const LARGEST_F16 = 65504.0;

fn pack_unit(quads: array<vec4<f32>, KV_QUADS>) -> array<KvWord, KV_WORDS> {
  // What does not fit would be indeterminate.
  let quad = clamp(quads[0], vec4<f32>(-LARGEST_F16), vec4<f32>(LARGEST_F16));
  return array<KvWord, KV_WORDS>(vec2<u32>(pack2x16float(quad.xy), pack2x16float(quad.zw)));
}

// Where a quad and the scale of its unit lie in a row.
fn get_quad_word(quad: u32) -> u32 {
  return quad;
}

fn get_scale_word(quad: u32) -> u32 {
  return quad;
}

fn unpack_quad(word: KvWord, scale: KvWord) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(word.x), unpack2x16float(word.y));
}
