// Reads the KV cache, whatever its type. `row`: first element of a row in k_cache or v_cache; `quad`: of the row.

fn read_key(row: u32, quad: u32) -> vec4<f32> {
  return unpack_quad(k_cache[row + get_quad_word(quad)], k_cache[row + get_scale_word(quad)]);
}

fn read_value(row: u32, quad: u32) -> vec4<f32> {
  return unpack_quad(v_cache[row + get_quad_word(quad)], v_cache[row + get_scale_word(quad)]);
}
