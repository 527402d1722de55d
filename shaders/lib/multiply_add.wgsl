// sum + w x: columns of sum and x are tokens, columns of w are columns of the matrix. Rising order, so that a result depends
// on nothing else.
fn multiply_add(sum: mat4x4<f32>, w: mat4x4<f32>, x: mat4x4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(
    sum[0] + x[0].x * w[0] + x[0].y * w[1] + x[0].z * w[2] + x[0].w * w[3],
    sum[1] + x[1].x * w[0] + x[1].y * w[1] + x[1].z * w[2] + x[1].w * w[3],
    sum[2] + x[2].x * w[0] + x[2].y * w[1] + x[2].z * w[2] + x[2].w * w[3],
    sum[3] + x[3].x * w[0] + x[3].y * w[1] + x[3].z * w[2] + x[3].w * w[3],
  );
}
