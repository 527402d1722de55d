// x[x_row] = norm(residual[row]), by the lanes of one workgroup; rows are places of their first vec4.
// RMSNorm (Zhang and Sennrich, arXiv 1910.07467), or LayerNorm where LAYER_NORM is 1.
// The kernel declares WORKGROUP_SIZE, HIDDEN, EPSILON, LAYER_NORM, residual, x, and read_norm(i): quad i of the norm's
// weights, behind them of a LayerNorm's biases.

// `own_sum`: of the row's values that this lane has, or anything for an RMSNorm.
fn write_norm(row: u32, x_row: u32, own_sum: f32, lane: u32) {
  let quads = HIDDEN / 4u;
  var mean = 0.0;
  if (LAYER_NORM == 1u) {
    mean = reduce_sum(vec4<f32>(own_sum, 0.0, 0.0, 0.0), lane).x / f32(HIDDEN);
  }
  var squares = 0.0;
  for (var i = lane; i < quads; i += WORKGROUP_SIZE) {
    let value = residual[row + i] - mean;
    squares += dot(value, value);
  }
  let scale = inverseSqrt(reduce_sum(vec4<f32>(squares, 0.0, 0.0, 0.0), lane).x / f32(HIDDEN) + EPSILON);
  for (var i = lane; i < quads; i += WORKGROUP_SIZE) {
    var value = (residual[row + i] - mean) * scale * read_norm(i);
    if (LAYER_NORM == 1u) {
      value += read_norm(quads + i);
    }
    x[x_row + i] = value;
  }
}

// The `own_sum` of a row that is there already.
fn sum_own(row: u32, lane: u32) -> f32 {
  var sum = 0.0;
  if (LAYER_NORM == 1u) {
    for (var i = lane; i < HIDDEN / 4u; i += WORKGROUP_SIZE) {
      sum += dot(residual[row + i], vec4<f32>(1.0));
    }
  }
  return sum;
}
