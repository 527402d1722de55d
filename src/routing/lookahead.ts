/**
 * Predictor: later layers' routers, applied on the GPU to the residual stream at a fault. The routes of the layers behind
 * the fault hold what they chose; this turns it into probabilities by how often such choices proved right, by distance.
 * Knows nothing before a fault, nor where nothing ran ahead.
 */
import { createState, openState, type Predictor } from './predictor';
import type { RoutingShape, TokenRoutes } from './token-routes';

/** Distances are told apart up to this one. */
const maxDistance = 8;
/** A choice counts half after this many more at its distance. */
const halfWeightChoices = 4096;
/** As if so many choices had been seen already. */
const priorChoices = 64;

export function createLookahead(shape: RoutingShape): Predictor {
  const { layers, experts, expertsPerToken } = shape;
  const share = expertsPerToken / experts;
  const keep = 2 ** (-1 / halfWeightChoices);
  /** [maxDistance, 2] f32: choices that were weighed, and the used ones of them; then the same of the pages not chosen. */
  const createCounts = (): Float32Array =>
    Float32Array.from({ length: maxDistance * 4 }, (_, at) => {
      // Two of three are right one layer behind, and fewer further on.
      const right = Math.max(share, 0.66 * 0.9 ** Math.floor(at / 4));
      const others = expertsPerToken < experts ? (share * (1 - right)) / (1 - share) : 0;
      return priorChoices * ([1, right, 1, others][at % 4] as number);
    });
  let counts = createCounts();
  /** [layers, experts]: 1 where a router behind the token's last fault chose the page; of layers from `from` to `to`. */
  const chosen = new Uint8Array(layers * experts);
  let [faultLayer, from, to] = [0, 0, 0];

  const getIndex = (layer: number): number => (Math.min(layer - faultLayer, maxDistance) - 1) * 4;

  /** Weighs what was chosen for layers before `end` against what they used. */
  const weigh = (routes: TokenRoutes, end: number): void => {
    for (let layer = from; layer < Math.min(to, end); layer++) {
      const at = getIndex(layer);
      const start = layer * experts;
      let [choices, right] = [0, 0];
      for (let expert = 0; expert < experts; expert++) choices += chosen[start + expert] as number;
      const used = routes.getStart(layer + 1) - routes.getStart(layer);
      for (let index = routes.getStart(layer); index < routes.getStart(layer + 1); index++) {
        right += chosen[start + (routes.ids[index] as number)] as number;
      }
      const faded = keep ** choices;
      const news = [choices, right, experts - choices, used - right];
      for (const [offset, value] of news.entries()) {
        counts[at + offset] = (counts[at + offset] as number) * faded + value;
      }
    }
    from = Math.max(from, end);
  };

  return {
    name: 'lookahead',
    predict(_context, scores) {
      scores.fill(0);
      [from, to] = [0, 0];
      return false;
    },
    predictBehind(_context, routes, layer, scores) {
      weigh(routes, layer + 1);
      faultLayer = layer;
      from = layer + 1;
      to = from;
      while (to < layers && routes.getStart(to + 1) > routes.getStart(to)) {
        const [start, at] = [to * experts, getIndex(to)];
        chosen.fill(0, start, start + experts);
        for (let index = routes.getStart(to); index < routes.getStart(to + 1); index++) {
          chosen[start + (routes.ids[index] as number)] = 1;
        }
        const whenChosen = (counts[at + 1] as number) / (counts[at] as number);
        const otherwise = (counts[at + 3] as number) / (counts[at + 2] as number);
        for (let page = start; page < start + experts; page++) {
          scores[page] = chosen[page] === 1 ? whenChosen : otherwise;
        }
        to++;
      }
      return to - from;
    },
    observe(_context, routes) {
      weigh(routes, layers);
      [from, to] = [0, 0];
    },
    save: () => createState('lookahead', shape, { counts: counts.slice() }),
    restore(state) {
      const arrays = openState(state, 'lookahead', shape);
      counts = arrays.get('counts', Float32Array, counts.length).slice();
    },
  };
}
