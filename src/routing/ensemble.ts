/**
 * Predictor: what others say, put together. Each member's scores count as evidence beside the average token, weighted by how
 * much of the recent routes it named, before the token and at each distance behind a fault apart. Owns the weights and the
 * average; what else is learnt belongs to the members.
 */
import { getLogOdds, getProbability } from './log-odds';
import { corruptState, createState, openState, type Predictor } from './predictor';
import type { RoutingShape, TokenRoutes } from './token-routes';
import { selectTop } from './top-scores';

/** Recall is measured on every so many tokens. */
const sampleTokens = 4;
/** A sample counts half after this many more. */
const halfWeightSamples = 64;
/** Distances behind a fault are told apart up to this one. */
const maxDistance = 8;
/** Tokens until a use counts half in the average token's rates. */
const averageHalfWeightTokens = 4096;

interface Member {
  readonly predictor: Predictor;
  /** [layers, experts] f32: its scores for the token. */
  readonly scores: Float32Array;
  /** [1 + maxDistance] f32: recent share of a layer's experts among its k best; 0 = before the token, d = d layers behind. */
  recall: Float32Array;
  /** [layers, experts] f32: log odds of its scores beyond the average's. */
  readonly evidence: Float32Array;
  /** [layers, expertsPerToken]: its best before the token, and how many they are by layer. */
  readonly named: Uint16Array;
  readonly namedCounts: Uint16Array;
  /** Layers behind the last fault that its last `predictBehind` wrote. */
  written: number;
}

export function createEnsemble(shape: RoutingShape, predictors: readonly Predictor[]): Predictor {
  const { layers, experts, expertsPerToken } = shape;
  const members: Member[] = predictors.map((predictor) => ({
    predictor,
    scores: new Float32Array(layers * experts),
    evidence: new Float32Array(layers * experts),
    recall: new Float32Array(1 + maxDistance),
    named: new Uint16Array(layers * expertsPerToken),
    namedCounts: new Uint16Array(layers),
    written: 0,
  }));
  const keep = 2 ** (-1 / halfWeightSamples);
  const top = new Uint16Array(expertsPerToken);
  let tokens = 0;
  /** [layers, experts] f32: decayed uses per token, as if the time before the first token had no uses. */
  let average = new Float32Array(layers * experts);
  const averageKeep = 2 ** (-1 / averageHalfWeightTokens);
  /** [layers, experts] f32: the average's log odds, as of the token's prediction. */
  const averageOdds = new Float32Array(layers * experts);
  /** The token's predictions are noted and wait for its routes. */
  let isSampled = false;

  /** Fills in what a member says of pages beyond the average. */
  const weigh = ({ scores, evidence }: Member, from: number, to: number): void => {
    for (let page = from; page < to; page++) {
      evidence[page] = getLogOdds(scores[page] as number) - (averageOdds[page] as number);
    }
  };

  /**
   * scores[from .. to) = the average's log odds plus what each member says beyond them. The member of highest recall counts
   * fully, the others by their recall beside its own: independent evidence would all count fully, and theirs is not.
   */
  const mix = (scores: Float32Array, from: number, to: number, distance: number): void => {
    const recalls = members.map(({ recall, written }) => {
      // A member that the fault told nothing still stands by what it said before the token.
      const informed = distance > 0 && distance <= written ? Math.min(distance, maxDistance) : 0;
      return recall[informed] as number;
    });
    const highest = Math.max(...recalls);
    if (highest === 0) {
      scores.fill(0, from, to);
      return;
    }
    scores.set(averageOdds.subarray(from, to), from);
    for (const [index, { evidence }] of members.entries()) {
      const weight = (recalls[index] as number) / highest;
      if (weight === 0) continue;
      for (let page = from; page < to; page++) {
        scores[page] = (scores[page] as number) + (evidence[page] as number) * weight;
      }
    }
    for (let page = from; page < to; page++) scores[page] = getProbability(scores[page] as number);
  };

  const noteRecall = (member: Member, distance: number, hits: number, needed: number): void => {
    const at = Math.min(distance, maxDistance);
    member.recall[at] = (member.recall[at] as number) * keep + (hits / needed) * (1 - keep);
  };

  /** How well the members named layers behind one layer, a different one each time. */
  const measureBehind = (context: Parameters<Predictor['observe']>[0], routes: TokenRoutes): void => {
    if (layers < 2) return;
    const layer = Math.floor(tokens / sampleTokens) % (layers - 1);
    for (const member of members) {
      const written = member.predictor.predictBehind(context, routes, layer, member.scores);
      for (let distance = 1; distance <= written; distance++) {
        const start = (layer + distance) * experts;
        const count = selectTop(member.scores, start, experts, expertsPerToken, top);
        const { hits, needed } = countHits(routes, layer + distance, top, 0, count);
        if (needed > 0) noteRecall(member, distance, hits, needed);
      }
    }
  };

  return {
    name: 'ensemble',
    predict(context, scores) {
      isSampled = tokens % sampleTokens === 0;
      const scale = tokens > 0 ? 1 / (1 - averageKeep ** tokens) : 0;
      for (let page = 0; page < average.length; page++)
        averageOdds[page] = getLogOdds((average[page] as number) * scale);
      for (const member of members) {
        member.written = 0;
        member.predictor.predict(context, member.scores);
        weigh(member, 0, average.length);
        if (!isSampled) continue;
        for (let layer = 0; layer < layers; layer++) {
          member.namedCounts[layer] = selectTop(member.scores, layer * experts, experts, expertsPerToken, top);
          member.named.set(top, layer * expertsPerToken);
        }
      }
      mix(scores, 0, layers * experts, 0);
    },
    predictBehind(context, routes, layer, scores) {
      let written = 0;
      for (const member of members) {
        member.written = member.predictor.predictBehind(context, routes, layer, member.scores);
        weigh(member, (layer + 1) * experts, (layer + 1 + member.written) * experts);
        written = Math.max(written, member.written);
      }
      for (let distance = 1; distance <= written; distance++) {
        mix(scores, (layer + distance) * experts, (layer + distance + 1) * experts, distance);
      }
      return written;
    },
    observe(context, routes) {
      if (isSampled) {
        for (const member of members) {
          let [hits, needed] = [0, 0];
          for (let layer = 0; layer < layers; layer++) {
            const count = member.namedCounts[layer] as number;
            const found = countHits(routes, layer, member.named, layer * expertsPerToken, count);
            hits += found.hits;
            needed += found.needed;
          }
          if (needed > 0) noteRecall(member, 0, hits, needed);
        }
        measureBehind(context, routes);
        isSampled = false;
      }
      tokens++;
      for (let page = 0; page < average.length; page++) average[page] = (average[page] as number) * averageKeep;
      for (let layer = 0; layer < layers; layer++) {
        const end = routes.getStart(layer + 1);
        for (let at = routes.getStart(layer); at < end; at++) {
          const page = layer * experts + (routes.ids[at] as number);
          average[page] = (average[page] as number) + 1 - averageKeep;
        }
      }
      for (const { predictor } of members) predictor.observe(context, routes);
    },
    save() {
      const recalls = members.map(({ predictor, recall }) => [`recall of ${predictor.name}`, recall.slice()] as const);
      const states = members.map(({ predictor }) => [predictor.name, predictor.save()] as const);
      const arrays = { ...Object.fromEntries(recalls), average: average.slice(), tokens: Uint32Array.of(tokens) };
      return { ...createState('ensemble', shape, arrays), members: Object.fromEntries(states) };
    },
    restore(state) {
      const arrays = openState(state, 'ensemble', shape);
      const restored = members.map(({ predictor }) => {
        const saved = state.members?.[predictor.name];
        if (!saved) throw corruptState('ensemble', `has no member "${predictor.name}"`);
        return [arrays.get(`recall of ${predictor.name}`, Float32Array, 1 + maxDistance).slice(), saved] as const;
      });
      const restoredAverage = arrays.get('average', Float32Array, average.length).slice();
      const restoredTokens = arrays.get('tokens', Uint32Array, 1)[0] as number;
      for (const [index, [recall, saved]] of restored.entries()) {
        const member = members[index] as Member;
        member.predictor.restore(saved);
        member.recall = recall;
      }
      average = restoredAverage;
      tokens = restoredTokens;
      isSampled = false;
    },
  };
}

/** How many of a layer's experts are among `ids[start .. start + count)`. */
function countHits(
  routes: TokenRoutes,
  layer: number,
  ids: Uint16Array,
  start: number,
  count: number,
): { hits: number; needed: number } {
  const [from, to] = [routes.getStart(layer), routes.getStart(layer + 1)];
  let hits = 0;
  for (let at = from; at < to; at++) {
    for (let index = start; index < start + count; index++) {
      if (ids[index] === routes.ids[at]) hits++;
    }
  }
  return { hits, needed: to - from };
}
