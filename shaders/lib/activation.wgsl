// What an expert does between its matrices: silu(g) * u, or gpt-oss's form, clamped.
// 0: silu, 1: clamped.
override ACTIVATION: u32;
override ALPHA: f32;
override LIMIT: f32;

fn activate(g: vec4<f32>, u: vec4<f32>) -> vec4<f32> {
  if (ACTIVATION == 1u) {
    let low = min(g, vec4<f32>(LIMIT));
    return (clamp(u, vec4<f32>(-LIMIT), vec4<f32>(LIMIT)) + 1.0) * low / (1.0 + exp(-ALPHA * low));
  }
  return g / (1.0 + exp(-g)) * u;
}
