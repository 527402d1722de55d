/** CPU reference of shaders/router_topk.wgsl, in f64. */
import {
  hasVariableCount,
  type NormConfig,
  plainRouter,
  type RouterConfig,
  type RouterInput,
} from '../../src/checkpoint/model-config';
import { matvec } from './matvec';
import { normalize } from './rms-norm';

export interface RouterShape {
  readonly hidden: number;
  readonly experts: number;
  readonly topK: number;
  readonly norm: NormConfig;
  readonly router: Partial<RouterConfig>;
  /** Default `norm`. */
  readonly input?: RouterInput;
}

export interface Routes {
  readonly x: Float64Array; // [rows, hidden]: the experts' input
  readonly ids: number[][]; // [rows][topK], falling keys, ties to the lower id; behind the last 0xffffffff
  readonly weights: number[][]; // [rows][topK]
  /** Smallest distance between two values whose order decides ids or their order; per row. */
  readonly margins: number[];
}

/** states [rows, stateWidth] score experts in the place of x where the router is recurrent. gate: the norm's weights (and biases) [hidden], the router [experts and null experts, hidden], vectors [experts padded to 4]; residual [rows, hidden]. */
export function routerTopk(
  shape: RouterShape,
  gate: Float32Array,
  residual: Float32Array,
  states: Float32Array | null = null,
): Routes {
  const { hidden, experts, topK, norm } = shape;
  const router = { ...plainRouter, ...shape.router };
  const normWidth = norm.kind === 'layer' ? 2 * hidden : hidden;
  const candidates = experts + router.nullExperts;
  const x =
    shape.input === 'stream'
      ? Float64Array.from(residual)
      : normalize(norm.kind, residual, gate.subarray(0, normWidth), norm.epsilon);
  const width = router.stateWidth ?? hidden;
  const end = normWidth + candidates * width;
  const logits = matvec(gate.subarray(normWidth, end), states ?? x, candidates, width);
  const biases = gate.subarray(end);
  const quads = Math.ceil(experts / 4) * 4;
  const choiceBias = router.logitBias ? biases.subarray(quads) : biases;
  const scoreNorm = router.choiceBias ? choiceBias.subarray(quads) : choiceBias;
  const routes: Routes = { x, ids: [], weights: [], margins: [] };
  for (let start = 0; start < logits.length; start += candidates) {
    const row = [...logits.subarray(start, start + candidates)].map((l, e) => l + (router.logitBias ? biases[e]! : 0));
    if (router.scoring === 'sparsemixer') mixSparsely(routes, row, router.jitter);
    else if (hasVariableCount(router)) chooseSome(routes, row, topK, router, scoreNorm);
    else choose(routes, row, topK, router, router.choiceBias ? choiceBias : null);
  }
  return routes;
}

function choose(
  { ids, weights, margins }: Routes,
  logits: readonly number[],
  topK: number,
  router: RouterConfig,
  bias: Float32Array | null,
): void {
  const { groups } = router;
  const highest = Math.max(...logits);
  const total = logits.reduce((sum, l) => sum + Math.exp(l - highest), 0);
  const scores = logits.map((l) =>
    router.scoring === 'sigmoid' ? 1 / (1 + Math.exp(-l)) : Math.exp(l - highest) / total,
  );
  const byScore = router.scoring === 'sigmoid' || bias !== null || groups !== null;
  const keys = (byScore ? scores : logits).map((key, e) => key + (bias?.[e] ?? 0));
  const gaps: number[] = [];
  if (groups) {
    const size = logits.length / groups.count;
    const ranked = Array.from({ length: groups.count }, (_, group) => {
      const own = keys.slice(group * size, (group + 1) * size).sort((a, b) => b - a);
      return { group, key: own[0]! + (groups.rank === 'two-best' ? own[1]! : 0) };
    }).sort((a, b) => b.key - a.key);
    gaps.push(ranked[groups.used - 1]!.key - ranked[groups.used]!.key);
    const used = new Set(ranked.slice(0, groups.used).map(({ group }) => group));
    keys.forEach((_, e) => {
      if (!used.has(Math.floor(e / size))) keys[e] = Number.NEGATIVE_INFINITY;
    });
  }
  const order = [...keys.keys()].sort((a, b) => keys[b]! - keys[a]! || a - b);
  const chosen = order.slice(0, topK);
  const sum = router.normalize
    ? Math.max(
        chosen.reduce((all, e) => all + scores[e]!, router.sumEpsilon),
        router.sumFloor,
      )
    : 1;
  ids.push(chosen);
  weights.push(chosen.map((e) => (router.scale * scores[e]!) / sum));
  margins.push(Math.min(...gaps, ...order.slice(1, topK + 1).map((e, rank) => keys[order[rank]!]! - keys[e]!)));
}

/**
 * BlockFFN (arXiv 2507.08771, section 3.1: relu, then RMSNorm), AdaMoE (arXiv 2406.13233, equation 5: weights over the true
 * experts among the chosen), dynamic routing (arXiv 2403.07652, equation 4: the fewest whose sum passes p).
 */
function chooseSome(
  { ids, weights, margins }: Routes,
  logits: readonly number[],
  topK: number,
  router: RouterConfig,
  scoreNorm: Float32Array,
): void {
  const experts = logits.length - router.nullExperts;
  const highest = Math.max(...logits);
  const total = logits.reduce((sum, l) => sum + Math.exp(l - highest), 0);
  const positive = logits.map((l) => Math.max(l, 0));
  const rms = Math.sqrt(positive.reduce((sum, s) => sum + s * s, 0) / experts + (router.scoreNorm ?? 0));
  const scores = logits.map((l, e) => {
    if (router.scoring !== 'relu') return Math.exp(l - highest) / total;
    return router.scoreNorm === null ? positive[e]! : (positive[e]! / rms) * scoreNorm[e]!;
  });
  const order = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b);
  const gaps = order.slice(1, topK + 1).map((e, rank) => logits[order[rank]!]! - logits[e]!);
  let chosen = order.slice(0, topK);
  if (router.topP !== null) {
    let sum = 0;
    const count = chosen.findIndex((e) => {
      sum += scores[e]!;
      gaps.push(Math.abs(sum - router.topP!));
      return sum > router.topP!;
    });
    if (count >= 0) chosen = chosen.slice(0, count + 1);
  }
  chosen = chosen.filter((e) => e < experts && (router.scoring !== 'relu' || logits[e]! > 0));
  if (router.scoring === 'relu') gaps.push(...logits.map(Math.abs));
  const sum = router.normalize
    ? Math.max(
        chosen.reduce((all, e) => all + scores[e]!, router.sumEpsilon),
        router.sumFloor,
      )
    : 1;
  const missing = topK - chosen.length;
  ids.push([...chosen, ...Array<number>(missing).fill(0xffffffff)]);
  weights.push([...chosen.map((e) => (router.scale * scores[e]!) / sum), ...Array<number>(missing).fill(0)]);
  margins.push(Math.min(...gaps));
}

/** Phi-3.5-MoE: transformers, modeling_phimoe.py, sparsemixer, not training. */
function mixSparsely({ ids, weights, margins }: Routes, logits: readonly number[], jitter: number): void {
  const left = [...logits];
  const chosen: number[] = [];
  const own: number[] = [];
  const gaps: number[] = [];
  for (let round = 0; round < 2; round++) {
    const highest = Math.max(...left);
    const best = left.indexOf(highest);
    let total = 0;
    for (const [e, l] of left.entries()) {
      const distance = (highest - logits[e]!) / Math.max(Math.abs(logits[e]!), highest);
      gaps.push(Math.abs(distance - 2 * jitter));
      if (distance <= 2 * jitter) total += Math.exp(l - highest);
    }
    gaps.push(highest - Math.max(...left.filter((_, e) => e !== best)));
    chosen.push(best);
    own.push(1 / total);
    left[best] = Number.NEGATIVE_INFINITY;
  }
  ids.push(chosen);
  weights.push(own);
  margins.push(Math.min(...gaps));
}
