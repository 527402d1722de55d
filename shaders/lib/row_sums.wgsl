// Sums of neighbouring rows of a matrix that share one reading of x: 4 * SPAN of them, in turn in the first place, so that one copy
// of the product is compiled: four take twice as long.
// 1 or 4, a divisor of TILES. A row's own sum does not depend on it.
override SPAN: u32;

// The first sum is `own` now, and takes its turn behind the others.
fn turn_sums(sums: mat4x4<f32>, own: f32) -> mat4x4<f32> {
  if (SPAN == 1u) {
    return mat4x4<f32>(vec4<f32>(sums[0].yzw, own), sums[1], sums[2], sums[3]);
  }
  return mat4x4<f32>(
    vec4<f32>(sums[0].yzw, sums[1].x),
    vec4<f32>(sums[1].yzw, sums[2].x),
    vec4<f32>(sums[2].yzw, sums[3].x),
    vec4<f32>(sums[3].yzw, own),
  );
}

// The second four come first.
fn turn_quads(sums: mat4x4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(sums[1], sums[2], sums[3], sums[0]);
}
