/**
 * Predictor: what others say, put together. Each member's log odds beyond the average token's are evidence, added up with
 * weights that follow, token by token, how well they foretold the routes: before the token, and at each distance behind a
 * fault apart. Owns the weights and the average; what else is learnt belongs to the members.
 *
 * The weights take steps down the gradient of the log loss (logistic mixing, as in the PAQ compressors), so that what comes
 * out is a calibrated probability: of pages given 0.3, three in ten are used.
 */
import { getLogOdds, getProbability } from './log-odds';
import { corruptState, createState, openState, type Predictor } from './predictor';
import type { RoutingShape, TokenRoutes } from './token-routes';

/** Distances behind a fault are told apart up to this one. */
const maxDistance = 8;
/** Tokens until a use counts half in the average token's rates. */
const averageHalfWeightTokens = 4096;
/** The average begins as if so many tokens had used all experts alike. */
const averagePriorTokens = 8;
/** Step of a weight, per unit of gradient and used page. */
const learningRate = 0.05;
/** From this many tokens on, one in so many still moves the weights. */
const settledTokens = 2048;
const settledInterval = 4;
/** Beyond these, a weight is no weight but noise. */
const maxWeight = 4;

/**
 * Where weights begin: `before` the token and `behind` a fault, fitted on training documents of the default model
 * (docs/log.md, "a calibrated ensemble"). A member of another name begins at `other`.
 */
const initialWeights = {
  before: { bias: 0.55, average: 1.3, token: 1.15, recency: 0.85, previous: 0.6, other: 0.5 },
  behind: { bias: 0, average: 1.1, token: 0.65, recency: 0.65, previous: 0.5, other: 0.5 },
} as const;
/** The same beside a learned predictor, which knows most of what the tables do. */
const initialWeightsBesideLearned = {
  before: { bias: 0.5, average: 1.3, token: 0.25, recency: 0.25, previous: 0.25, learned: 0.95, other: 0.5 },
  behind: { bias: 0, average: 1.1, token: 0.2, recency: 0.2, previous: 0.2, learned: 0.8, other: 0.4 },
} as const;

interface Member {
  readonly predictor: Predictor;
  /** [layers, experts] f32: its scores for the token. */
  readonly scores: Float32Array;
  /** [layers, experts] f32: log odds of its scores beyond the average's, before the token and behind its last fault. */
  readonly before: Float32Array;
  readonly behind: Float32Array;
  /** Layers behind the last fault that its last `predictBehind` wrote. */
  written: number;
}

export function createEnsemble(shape: RoutingShape, predictors: readonly Predictor[]): Predictor {
  const { layers, experts, expertsPerToken } = shape;
  const pages = layers * experts;
  const members: Member[] = predictors.map((predictor) => ({
    predictor,
    scores: new Float32Array(pages),
    before: new Float32Array(pages),
    behind: new Float32Array(pages),
    written: 0,
  }));
  /** Bias, average, then the members in order. */
  const width = 2 + members.length;
  /** [1 + maxDistance, width] f32. 0: before the token; d: d layers behind a fault. */
  const isBesideLearned = predictors.some(({ name }) => name === 'learned');
  const { before: weightsBefore, behind: weightsBehind } = isBesideLearned
    ? initialWeightsBesideLearned
    : initialWeights;
  let weights = Float32Array.from({ length: (1 + maxDistance) * width }, (_, at) => {
    const initial: Readonly<Record<string, number>> = at < width ? weightsBefore : weightsBehind;
    const name = ['bias', 'average', ...predictors.map((predictor) => predictor.name)][at % width] as string;
    return initial[name] ?? (initial.other as number);
  });
  const gradient = new Float64Array(width);
  let tokens = 0;
  /** [layers, experts] f32: decayed uses. */
  let average = new Float32Array(pages);
  const averageKeep = 2 ** (-1 / averageHalfWeightTokens);
  /** [layers, experts] f32, as of the token's prediction: the average's log odds, and the probabilities that came out. */
  const averageOdds = new Float32Array(pages);
  const mixed = new Float32Array(pages);
  /** [layers, experts]: 1 where the token used the page, while weights are moved. */
  const used = new Uint8Array(pages);
  /** Layers whose last prediction is the one before the token, and those behind the last fault: [start, fault + 1, end]. */
  let [hasPrediction, faultLayer, foreseen] = [false, -1, 0];

  const noteAverage = (): void => {
    const uniform = (averagePriorTokens * expertsPerToken) / experts;
    const weight = (1 - averageKeep ** tokens) / (1 - averageKeep) + averagePriorTokens;
    for (let page = 0; page < pages; page++) {
      averageOdds[page] = getLogOdds(((average[page] as number) + uniform) / weight);
    }
  };

  /** A member's evidence about a layer at a distance behind the fault; what the fault did not tell it stays as it was. */
  const getEvidence = (member: Member, distance: number): Float32Array =>
    distance > 0 && distance <= member.written ? member.behind : member.before;

  /** mixed[from .. to) = what all evidence together says. */
  const mix = (from: number, to: number, distance: number): void => {
    const at = Math.min(distance, maxDistance) * width;
    const [bias, average] = [weights[at] as number, weights[at + 1] as number];
    for (let page = from; page < to; page++) mixed[page] = bias + average * (averageOdds[page] as number);
    for (const [index, member] of members.entries()) {
      const weight = weights[at + 2 + index] as number;
      const evidence = getEvidence(member, distance);
      for (let page = from; page < to; page++) {
        mixed[page] = (mixed[page] as number) + weight * (evidence[page] as number);
      }
    }
    for (let page = from; page < to; page++) mixed[page] = getProbability(mixed[page] as number);
  };

  /** One step of the weights of a distance, from the layers that were foreseen at it. */
  const learn = (routes: TokenRoutes, fromLayer: number, toLayer: number, distance: number): void => {
    const [from, to] = [fromLayer * experts, toLayer * experts];
    const [first, last] = [routes.getStart(fromLayer), routes.getStart(toLayer)];
    if (last === first) return;
    used.fill(0, from, to);
    for (let layer = fromLayer; layer < toLayer; layer++) {
      for (let at = routes.getStart(layer); at < routes.getStart(layer + 1); at++) {
        used[layer * experts + (routes.ids[at] as number)] = 1;
      }
    }
    gradient.fill(0);
    for (let page = from; page < to; page++) {
      const error = (used[page] as number) - (mixed[page] as number);
      gradient[0] = (gradient[0] as number) + error;
      gradient[1] = (gradient[1] as number) + error * (averageOdds[page] as number);
      // Reused below: the error stands where the probability was.
      mixed[page] = error;
    }
    for (const [index, member] of members.entries()) {
      const evidence = getEvidence(member, distance);
      let sum = 0;
      for (let page = from; page < to; page++) sum += (mixed[page] as number) * (evidence[page] as number);
      gradient[2 + index] = sum;
    }
    const step = learningRate / (last - first);
    const at = Math.min(distance, maxDistance) * width;
    for (let index = 0; index < width; index++) {
      const moved = (weights[at + index] as number) + step * (gradient[index] as number);
      weights[at + index] = Math.max(-maxWeight, Math.min(maxWeight, moved));
    }
  };

  /** Learns from the predictions of the layers before `end`, which are known now. */
  const learnUntil = (routes: TokenRoutes, end: number): void => {
    const isDue = tokens < settledTokens || tokens % settledInterval === 0;
    if (hasPrediction && isDue) {
      if (faultLayer < 0) learn(routes, 0, end, 0);
      for (let layer = faultLayer + 1; faultLayer >= 0 && layer < Math.min(end, foreseen); layer++) {
        learn(routes, layer, layer + 1, layer - faultLayer);
      }
    }
  };

  return {
    name: 'ensemble',
    predict(context, scores) {
      noteAverage();
      let isInformed = tokens > 0;
      for (const member of members) {
        member.written = 0;
        const { predictor, scores: own, before } = member;
        const knows = predictor.predict(context, own);
        isInformed ||= knows;
        if (!knows) before.fill(0);
        else
          for (let page = 0; page < pages; page++)
            before[page] = getLogOdds(own[page] as number) - (averageOdds[page] as number);
      }
      [hasPrediction, faultLayer, foreseen] = [isInformed, -1, 0];
      if (isInformed) mix(0, pages, 0);
      else mixed.fill(0);
      scores.set(mixed);
      return isInformed;
    },
    predictBehind(context, routes, layer, scores) {
      learnUntil(routes, layer + 1);
      let written = 0;
      for (const member of members) {
        const { predictor, scores: own, behind } = member;
        member.written = predictor.predictBehind(context, routes, layer, own);
        for (let page = (layer + 1) * experts; page < (layer + 1 + member.written) * experts; page++) {
          behind[page] = getLogOdds(own[page] as number) - (averageOdds[page] as number);
        }
        written = Math.max(written, member.written);
      }
      [faultLayer, foreseen] = [layer, layer + 1 + written];
      for (let distance = 1; distance <= written; distance++) {
        mix((layer + distance) * experts, (layer + distance + 1) * experts, distance);
      }
      scores.set(mixed.subarray((layer + 1) * experts, foreseen * experts), (layer + 1) * experts);
      return written;
    },
    observe(context, routes) {
      learnUntil(routes, layers);
      hasPrediction = false;
      tokens++;
      for (let page = 0; page < pages; page++) average[page] = (average[page] as number) * averageKeep;
      for (let layer = 0; layer < layers; layer++) {
        const end = routes.getStart(layer + 1);
        for (let at = routes.getStart(layer); at < end; at++) {
          const page = layer * experts + (routes.ids[at] as number);
          average[page] = (average[page] as number) + 1;
        }
      }
      for (const { predictor } of members) predictor.observe(context, routes);
    },
    save() {
      const states = members.map(({ predictor }) => [predictor.name, predictor.save()] as const);
      const arrays = { weights: weights.slice(), average: average.slice(), tokens: Uint32Array.of(tokens) };
      return { ...createState('ensemble', shape, arrays), members: Object.fromEntries(states) };
    },
    restore(state) {
      const arrays = openState(state, 'ensemble', shape);
      // Weights belong to a set of members. What a smaller ensemble learnt teaches the members, not how they go together.
      const isSameSet = Object.keys(state.members ?? {}).length === members.length;
      const restoredWeights = isSameSet ? arrays.get('weights', Float32Array, weights.length, true).slice() : weights;
      const restoredAverage = arrays.get('average', Float32Array, pages).slice();
      const restoredTokens = arrays.get('tokens', Uint32Array, 1)[0] as number;
      const restored = members.flatMap(({ predictor }) => {
        const saved = state.members?.[predictor.name];
        if (!saved && isSameSet) throw corruptState('ensemble', `has no member "${predictor.name}"`);
        return saved ? [[predictor, saved] as const] : [];
      });
      for (const [predictor, saved] of restored) predictor.restore(saved);
      weights = restoredWeights;
      average = restoredAverage;
      tokens = restoredTokens;
      hasPrediction = false;
    },
  };
}
