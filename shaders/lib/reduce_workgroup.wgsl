// Sums and maxima over a workgroup by a tree in workgroup memory; WORKGROUP_SIZE is a power of two.
// The result is known to every lane. `lane` is the local invocation index.

var<workgroup> reduce_sums: array<vec4<f32>, WORKGROUP_SIZE>;
var<workgroup> reduce_words: array<u32, WORKGROUP_SIZE>;

fn reduce_sum(value: vec4<f32>, lane: u32) -> vec4<f32> {
  reduce_sums[lane] = value;
  workgroupBarrier();
  for (var half = WORKGROUP_SIZE / 2u; half > 0u; half /= 2u) {
    if (lane < half) {
      reduce_sums[lane] += reduce_sums[lane + half];
    }
    workgroupBarrier();
  }
  return workgroupUniformLoad(&reduce_sums[0]);
}

fn reduce_max_u32(value: u32, lane: u32) -> u32 {
  reduce_words[lane] = value;
  workgroupBarrier();
  for (var half = WORKGROUP_SIZE / 2u; half > 0u; half /= 2u) {
    if (lane < half) {
      reduce_words[lane] = max(reduce_words[lane], reduce_words[lane + half]);
    }
    workgroupBarrier();
  }
  return workgroupUniformLoad(&reduce_words[0]);
}

// Orders f32 as u32, so that one tree serves both: flips all bits of negatives, the sign bit of the others.
fn reduce_max(value: f32, lane: u32) -> f32 {
  let bits = bitcast<u32>(value);
  let key = select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
  let best = reduce_max_u32(key, lane);
  return bitcast<f32>(select(~best, best & 0x7fffffffu, (best & 0x80000000u) != 0u));
}
