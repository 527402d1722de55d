/** CPU reference of how attention cuts a row's positions, and of shaders/lib/x_spans.wgsl, which adds the spans up; in f64. */

/** First position and the one behind the last of each span of a row that sees positions `first` to `end` - 1. */
export function cutSpans(first: number, end: number, most: number, chunk: number): [begin: number, end: number][] {
  const length = Math.ceil((end - first) / (most * chunk)) * chunk;
  const count = Math.ceil((end - first) / length);
  return Array.from({ length: count }, (_, i) => [first + i * length, Math.min(end, first + (i + 1) * length)]);
}

/** What each span of a head leaves: its sum of `valueDim` values, its highest score, its weights' sum. */
export interface Span {
  readonly sum: ArrayLike<number>;
  readonly highest: number;
  readonly weight: number;
}

export function addSpans(spans: readonly Span[], valueDim: number): Float64Array {
  const highest = Math.max(...spans.map((span) => span.highest));
  const factors = spans.map((span) => Math.exp(span.highest - highest));
  const weight = spans.reduce((sum, span, i) => sum + factors[i]! * span.weight, 0);
  return Float64Array.from({ length: valueDim }, (_, d) =>
    spans.reduce((sum, span, i) => sum + (factors[i]! * span.sum[d]!) / weight, 0),
  );
}
