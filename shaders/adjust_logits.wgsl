// What a caller wants changed in logits before a token is chosen from them: listed ids get a delta, forbidden ids FORBIDDEN.
//   logits[id] += delta    for every pair (id, delta) in `changes`
//   logits[id] = FORBIDDEN    where the mask has a 0 bit at id, if there is a mask
// Ids in pairs are distinct and not forbidden, so no logit is written twice and the order of invocations does not matter.
//
// Bindings: changes: {pairs u32, masked u32, CAPACITY of (id u32, delta f32), [ceil(VOCAB / 32)] u32 of mask bits};
// logits [VOCAB] f32; control.
// Grid: (workgroups over mask words). One invocation per 32 ids, and per every so many pairs.
override WORKGROUP_SIZE: u32;
override VOCAB: u32;
override CAPACITY: u32;

// Far below any logit, and still finite when a temperature divides it.
const FORBIDDEN = -1e30;

@group(0) @binding(0) var<storage, read> changes: array<u32>;
@group(0) @binding(1) var<storage, read_write> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> control: array<atomic<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn adjust_logits(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  if (atomicLoad(&control[FAULT_LAYER]) != NO_FAULT) {
    return;
  }
  for (var pair = id.x; pair < changes[0]; pair += groups.x * WORKGROUP_SIZE) {
    logits[changes[2u + 2u * pair]] += bitcast<f32>(changes[3u + 2u * pair]);
  }
  let first = id.x * 32u;
  if (changes[1] == 0u || first >= VOCAB) {
    return;
  }
  let allowed = changes[2u + 2u * CAPACITY + id.x];
  for (var bit = 0u; bit < min(32u, VOCAB - first); bit++) {
    if (((allowed >> bit) & 1u) == 0u) {
      logits[first + bit] = FORBIDDEN;
    }
  }
}
