// Rows of a KV cache of any type. `quads`: of a row.

fn get_row_words(quads: u32) -> u32 {
  return (quads + KV_QUADS - 1u) / KV_QUADS * KV_WORDS;
}
