// Sums and maxima over a workgroup that is exactly one subgroup: no barrier.
// The result is known to every lane. `lane` is the local invocation index.

fn reduce_sum(value: vec4<f32>, lane: u32) -> vec4<f32> {
  return subgroupAdd(value);
}

fn reduce_max(value: f32, lane: u32) -> f32 {
  return subgroupMax(value);
}

fn reduce_max_u32(value: u32, lane: u32) -> u32 {
  return subgroupMax(value);
}
