// A KV cache of f32. Of every type of cache: a row, the keys or the values of a head at a position, is a run of units of
// KV_QUADS quads, each in KV_WORDS elements of the buffer.
alias KvWord = vec4<f32>;
const KV_QUADS = 1u;
const KV_WORDS = 1u;

fn pack_unit(quads: array<vec4<f32>, KV_QUADS>) -> array<KvWord, KV_WORDS> {
  return array<KvWord, KV_WORDS>(quads[0]);
}

// Where a quad and the scale of its unit lie in a row.
fn get_quad_word(quad: u32) -> u32 {
  return quad;
}

fn get_scale_word(quad: u32) -> u32 {
  return quad;
}

fn unpack_quad(word: KvWord, scale: KvWord) -> vec4<f32> {
  return word;
}
