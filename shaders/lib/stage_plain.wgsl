// The 32 activations of a block, as the products with weights take them: as they are.
alias Staged = array<vec4<f32>, 8>;

fn stage_block(x: array<vec4<f32>, 8>) -> Staged {
  return x;
}
