// Where one buffer of a layer's slots, and the matrices and biases of a page, lie.
struct Pool {
  moe_layer: u32,
  first_slot: u32, // of the slots in this buffer
  slots: u32,
  page_quads: u32, // size of a page in vec4s
  gate_base: u32, // first vec4 of each matrix in a page
  up_base: u32,
  down_base: u32,
  gate_bias: u32, // likewise; unread where experts have no biases
  up_bias: u32,
  down_bias: u32,
}
