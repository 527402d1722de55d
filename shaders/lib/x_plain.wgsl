// Activations of a product, as they lie in `x`. `lane`: local invocation index; `row`, `head`: whose they are.

fn open_x(row: u32, head: u32, lane: u32) {}

fn read_x(at: u32) -> vec4<f32> {
  return x[at];
}
