// Activations of a product that are what attention leaves span by span (attention.wgsl): each is the sum over its head's spans
// of their sums, weighed by exp(highest - the highest of all), over the sum of their weights. Spans are added from the first on.
// Needs `x`, WORKGROUP_SIZE. Bindings: x [rows, HEADS, SPANS] of VALUE_DIM values and {highest score, sum of weights, spans of the
// row, 0} f32. Positions in x are counted as if it were [rows, HEADS, VALUE_DIM].
override SPANS: u32;
override HEADS: u32;
override VALUE_DIM: u32;
// Heads that a workgroup reads.
override OPEN_HEADS: u32;

// What a span's sum is multiplied by.
var<workgroup> x_factors: array<f32, OPEN_HEADS * SPANS>;
// The first of the heads that are open, counted over all rows, and the spans of their row.
var<private> x_first: u32;
var<private> x_spans: u32;

fn get_x_end(head: u32, span: u32) -> vec4<f32> {
  let quads = VALUE_DIM / 4u;
  return x[(head * SPANS + span) * (quads + 1u) + quads];
}

// Before the first `read_x`, by all lanes: for the heads of `row` from `head` on.
fn open_x(row: u32, head: u32, lane: u32) {
  x_first = row * HEADS + head;
  x_spans = u32(get_x_end(x_first, 0u).z);
  for (var i = lane; i < OPEN_HEADS; i += WORKGROUP_SIZE) {
    var highest = get_x_end(x_first + i, 0u).x;
    for (var span = 1u; span < x_spans; span++) {
      highest = max(highest, get_x_end(x_first + i, span).x);
    }
    var weight = 0.0;
    for (var span = 0u; span < x_spans; span++) {
      let end = get_x_end(x_first + i, span);
      let factor = exp(end.x - highest);
      weight += factor * end.y;
      x_factors[i * SPANS + span] = factor;
    }
    for (var span = 0u; span < x_spans; span++) {
      x_factors[i * SPANS + span] /= weight;
    }
  }
  workgroupBarrier();
}

fn read_x(at: u32) -> vec4<f32> {
  let quads = VALUE_DIM / 4u;
  let head = at / quads;
  let factors = (head - x_first) * SPANS;
  let first = head * SPANS * (quads + 1u) + at % quads;
  var sum = x_factors[factors] * x[first];
  for (var span = 1u; span < x_spans; span++) {
    sum += x_factors[factors + span] * x[first + span * (quads + 1u)];
  }
  return sum;
}
