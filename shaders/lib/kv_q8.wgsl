// A KV cache of 8 bits a value: units of 32 values that share an f32 scale, which lies before them. See lib/kv_f32.wgsl.
// A byte b is (b - 128) * scale, b from 1 to 255; values behind the end of a row are zeros.
alias KvWord = u32;
const KV_QUADS = 8u;
const KV_WORDS = 9u;

fn pack_unit(quads: array<vec4<f32>, KV_QUADS>) -> array<KvWord, KV_WORDS> {
  var largest = vec4<f32>(0.0);
  for (var i = 0u; i < KV_QUADS; i++) {
    largest = max(largest, abs(quads[i]));
  }
  let scale = max(max(largest.x, largest.y), max(largest.z, largest.w)) / 127.0;
  let inverse = select(0.0, 1.0 / scale, scale > 0.0);
  var words = array<KvWord, KV_WORDS>();
  words[0] = bitcast<u32>(scale);
  for (var i = 0u; i < KV_QUADS; i++) {
    let bytes = vec4<u32>(clamp(round(quads[i] * inverse), vec4<f32>(-127.0), vec4<f32>(127.0)) + 128.0);
    words[i + 1u] = bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
  }
  return words;
}

// Where a quad and the scale of its unit lie in a row.
fn get_quad_word(quad: u32) -> u32 {
  return quad + (quad >> 3u) + 1u;
}

fn get_scale_word(quad: u32) -> u32 {
  return (quad >> 3u) * KV_WORDS;
}

// A byte stays where it is and a power of two takes its place out again, exactly: shifts by lane are dear on software adapters.
fn unpack_quad(word: KvWord, scale: KvWord) -> vec4<f32> {
  let bytes = vec4<f32>(vec4<u32>(word) & vec4<u32>(0xffu, 0xff00u, 0xff0000u, 0xff000000u));
  return (bytes * vec4<f32>(1.0, 0x1p-8, 0x1p-16, 0x1p-24) - 128.0) * bitcast<f32>(scale);
}
