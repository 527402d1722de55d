// What one lane of a tiled product makes, of four matrix rows: columns are tokens, four to a matrix.
struct TileSums {
  a: mat4x4<f32>,
  b: mat4x4<f32>,
  c: mat4x4<f32>,
  d: mat4x4<f32>,
}
