/**
 * Predictor: experts that follow experts. Counts, for pairs of MoE layers up to `reach` apart, how often a token that used
 * one expert used the other; at a fault each expert of the faulting layer is evidence about the layers behind it.
 * Knows nothing before a token's first routes.
 */
import { getLogOdds, getProbability } from './log-odds';
import { createState, openState, type Predictor } from './predictor';
import type { RoutingShape } from './token-routes';

/** Bytes of pair counts: reach 4 of 48 layers x 128 experts take 6 MiB, reach 1 of 48 x 512 take 25 MiB. */
const defaultBudgetBytes = 64 << 20;
/** Further away the routes say little that those of the layers between will not say better. */
const maxReach = 4;
/** A row of counts is halved when its expert was used so often: the newer half of the evidence stays. */
const maxUses = 4096;
/** The layer's average weighs as much as this many uses of the expert. */
const priorUses = 4;

export function createAffinity(shape: RoutingShape, budgetBytes = defaultBudgetBytes): Predictor {
  const { layers, experts } = shape;
  const square = experts * experts;
  const reach = Math.min(maxReach, layers - 1, Math.floor(budgetBytes / (2 * layers * square)));
  /** [reach][layers, experts, experts] u16: tokens that used expert a in layer l and expert b in layer l + 1 + distance. */
  let pairs = Array.from({ length: reach }, () => new Uint16Array(layers * square));
  /** [layers, experts] u16: tokens that used the expert, halved as the pairs are. */
  let uses = new Uint16Array(layers * experts);
  /** [layers, experts] f32: tokens that used the expert, and how many tokens there were. */
  let totals = new Float32Array(layers * experts);
  let tokens = 0;
  // [experts] scratch of one prediction.
  const [priors, averageOdds, odds] = [new Float64Array(experts), new Float64Array(experts), new Float64Array(experts)];

  const halve = (page: number): void => {
    uses[page] = (uses[page] as number) >> 1;
    for (const table of pairs) {
      for (let at = page * experts; at < (page + 1) * experts; at++) table[at] = (table[at] as number) >> 1;
    }
  };

  return {
    name: 'affinity',
    predict(_context, scores) {
      scores.fill(0);
      return false;
    },
    predictBehind(_context, routes, layer, scores) {
      if (tokens === 0) return 0;
      const [start, end] = [routes.getStart(layer), routes.getStart(layer + 1)];
      if (start === end) return 0;
      const written = Math.min(reach, layers - 1 - layer);
      // Evidence of experts that often come together is counted less than once each: about 0.5 was best on recorded traces
      // of 4 experts per token, for recall and for log loss alike.
      const trust = (end - start) ** -0.5;
      for (let distance = 0; distance < written; distance++) {
        const target = (layer + 1 + distance) * experts;
        for (let expert = 0; expert < experts; expert++) {
          const average = (totals[target + expert] as number) / tokens;
          priors[expert] = average * priorUses;
          averageOdds[expert] = getLogOdds(average);
        }
        odds.set(averageOdds);
        const table = pairs[distance] as Uint16Array;
        for (let at = start; at < end; at++) {
          const page = layer * experts + (routes.ids[at] as number);
          const weight = 1 / ((uses[page] as number) + priorUses);
          const row = page * experts;
          for (let expert = 0; expert < experts; expert++) {
            const chance = ((table[row + expert] as number) + (priors[expert] as number)) * weight;
            odds[expert] = (odds[expert] as number) + (getLogOdds(chance) - (averageOdds[expert] as number)) * trust;
          }
        }
        for (let expert = 0; expert < experts; expert++) {
          scores[target + expert] = getProbability(odds[expert] as number);
        }
      }
      return written;
    },
    observe(_context, routes) {
      tokens++;
      const { ids } = routes;
      for (let layer = 0; layer < layers; layer++) {
        const end = routes.getStart(layer + 1);
        for (let at = routes.getStart(layer); at < end; at++) {
          const page = layer * experts + (ids[at] as number);
          totals[page] = (totals[page] as number) + 1;
          if ((uses[page] as number) >= maxUses) halve(page);
          uses[page] = (uses[page] as number) + 1;
          for (let distance = 0; distance < reach && layer + 1 + distance < layers; distance++) {
            const table = pairs[distance] as Uint16Array;
            const otherEnd = routes.getStart(layer + 2 + distance);
            for (let other = routes.getStart(layer + 1 + distance); other < otherEnd; other++) {
              const pair = page * experts + (ids[other] as number);
              table[pair] = (table[pair] as number) + 1;
            }
          }
        }
      }
    },
    save() {
      const arrays = Object.fromEntries(pairs.map((table, distance) => [`pairs${distance + 1}`, table.slice()]));
      return createState('affinity', shape, {
        ...arrays,
        uses: uses.slice(),
        totals: totals.slice(),
        tokens: Uint32Array.of(tokens),
      });
    },
    restore(state) {
      const arrays = openState(state, 'affinity', shape);
      const restored = pairs.map((_, distance) =>
        arrays.get(`pairs${distance + 1}`, Uint16Array, layers * square).slice(),
      );
      const restoredUses = arrays.get('uses', Uint16Array, layers * experts).slice();
      const restoredTotals = arrays.get('totals', Float32Array, layers * experts).slice();
      tokens = arrays.get('tokens', Uint32Array, 1)[0] as number;
      pairs = restored;
      uses = restoredUses;
      totals = restoredTotals;
    },
  };
}
