/** CPU reference of shaders/router_topk.wgsl, in f64. */
import { matvec } from './matvec';
import { rmsNorm } from './rms-norm';

export interface RouterShape {
  readonly hidden: number;
  readonly experts: number;
  readonly topK: number;
  readonly epsilon: number;
  readonly normalize: boolean;
}

export interface Routes {
  readonly x: Float64Array; // [rows, hidden]: the experts' input
  readonly ids: number[][]; // [rows][topK], falling logits, ties to the lower id
  readonly weights: number[][]; // [rows][topK]
  /** Smallest distance between two logits whose order decides ids or their order; per row. */
  readonly margins: number[];
}

/** gate [1 + experts, hidden]: the norm's weights, then the router; residual [rows, hidden]. */
export function routerTopk(shape: RouterShape, gate: Float32Array, residual: Float32Array): Routes {
  const { hidden, experts, topK } = shape;
  const x = rmsNorm(residual, gate.subarray(0, hidden), shape.epsilon);
  const logits = matvec(gate.subarray(hidden), x, experts, hidden);
  const ids: number[][] = [];
  const weights: number[][] = [];
  const margins: number[] = [];
  for (let start = 0; start < logits.length; start += experts) {
    const row = logits.subarray(start, start + experts);
    const order = [...row.keys()].sort((a, b) => row[b]! - row[a]! || a - b);
    const highest = row[order[0]!]!;
    const p = Array.from(row, (logit) => Math.exp(logit - highest));
    const chosen = order.slice(0, topK);
    const sum = (shape.normalize ? chosen.map((id) => p[id]!) : p).reduce((a, b) => a + b);
    ids.push(chosen);
    weights.push(chosen.map((id) => p[id]! / sum));
    margins.push(Math.min(...order.slice(1, topK + 1).map((id, rank) => row[order[rank]!]! - row[id]!)));
  }
  return { x, ids, weights, margins };
}
