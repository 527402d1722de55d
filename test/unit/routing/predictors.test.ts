import { expect, test } from 'vitest';
import { createAffinity } from '../../../src/routing/affinity';
import { createEnsemble } from '../../../src/routing/ensemble';
import { createLookahead } from '../../../src/routing/lookahead';
import type { Predictor, PredictorState } from '../../../src/routing/predictor';
import { createPredictor } from '../../../src/routing/predictors';
import { createRecency } from '../../../src/routing/recency';
import { type RoutingShape, TokenRoutes } from '../../../src/routing/token-routes';
import { createTokenTable } from '../../../src/routing/token-table';
import { selectTop } from '../../../src/routing/top-scores';

const shape: RoutingShape = { layers: 3, experts: 8, expertsPerToken: 2 };
const pages = shape.layers * shape.experts;
const makers: [string, (of: RoutingShape) => Predictor][] = [
  ['recency', createRecency],
  ['token', createTokenTable],
  ['affinity', createAffinity],
  ['previous', (of) => createTokenTable(of, undefined, 'previous')],
  ['ensemble', (of) => createPredictor('ensemble', of, { looksAhead: false }) as Predictor],
];

/** Each id has its own before it. */
const at = (tokenId: number) => ({ tokenId, position: 1, previousId: (tokenId + 4) % 5 });

/** Layer l of token id t uses t + l and one that follows from it; a third of the tokens strays. */
function makeRoutes(tokenId: number, step: number): TokenRoutes {
  const first = (tokenId + (step % 3 === 0 ? step : 0)) % shape.experts;
  return TokenRoutes.fromLayers([0, 1, 2].map((layer) => [(first + layer) % 8, (first + 3 * layer + 5) % 8]));
}

function teach(predictor: Predictor, steps: number, from = 0): void {
  const scores = new Float32Array(pages);
  for (let step = from; step < from + steps; step++) {
    predictor.predict(at(step % 5), scores);
    predictor.observe(at(step % 5), makeRoutes(step % 5, step));
  }
}

function predict(predictor: Predictor, tokenId: number): Float32Array {
  const scores = new Float32Array(pages).fill(Number.NaN);
  predictor.predict(at(tokenId), scores);
  return scores;
}

test.each(makers)('%s knows nothing at first', (_name, create) => {
  const predictor = create(shape);
  expect(predict(predictor, 1)).toEqual(new Float32Array(pages));
  expect(predictor.predictBehind(at(1), makeRoutes(1, 1), 0, new Float32Array(pages))).toBe(0);
});

test.each(makers)('scores of %s are probabilities', (_name, create) => {
  const predictor = create(shape);
  teach(predictor, 100);
  const scores = predict(predictor, 3);
  for (const score of scores) expect(score >= 0 && score <= 1 + 1e-6).toBe(true);
  const written = predictor.predictBehind(at(3), makeRoutes(3, 1), 0, scores);
  for (const score of scores) expect(score >= 0 && score <= 1 + 1e-6).toBe(true);
  expect(written).toBe(predictor.name === 'affinity' || predictor.name === 'ensemble' ? 2 : 0);
});

test.each(makers)('what %s learnt survives a structured clone', (_name, create) => {
  const [one, other] = [create(shape), create(shape)];
  teach(one, 101);
  other.restore(structuredClone(one.save()));
  for (let step = 0; step < 12; step++) {
    const [scores, same] = [predict(one, step % 7), predict(other, step % 7)];
    expect(same).toEqual(scores);
    one.predictBehind(at(step % 7), makeRoutes(1, step), 1, scores);
    other.predictBehind(at(step % 7), makeRoutes(1, step), 1, same);
    expect(same).toEqual(scores);
    one.observe(at(step % 7), makeRoutes(step % 7, step));
    other.observe(at(step % 7), makeRoutes(step % 7, step));
  }
});

test.each(makers)('%s saves a copy: learning on does not change it', (_name, create) => {
  const predictor = create(shape);
  teach(predictor, 20);
  const state = predictor.save();
  const before = structuredClone(state);
  teach(predictor, 20, 20);
  expect(state).toEqual(before);
});

test.each(makers)('%s refuses a state that is not its own, and keeps what it has', (_name, create) => {
  const predictor = create(shape);
  teach(predictor, 20);
  const kept = predict(predictor, 2);
  const good = predictor.save();
  const wrong: unknown[] = [
    { ...good, predictor: 'other' },
    { ...good, experts: 4 },
    { ...good, version: 1 },
    { ...good, arrays: undefined },
    { ...good, arrays: {} },
    { ...good, arrays: { ...good.arrays, tokens: new Uint32Array(2) } },
    { ...good, arrays: { ...good.arrays, tokens: new Float32Array(1) } },
    {},
  ];
  for (const state of wrong) {
    expect(() => predictor.restore(state as PredictorState)).toThrowError(expect.objectContaining({ code: 'CORRUPT' }));
  }
  expect(predict(predictor, 2)).toEqual(kept);
});

test('values that no predictor writes are refused', () => {
  const predictor = createRecency(shape);
  teach(predictor, 5);
  const state = predictor.save();
  const fast = Float32Array.from(state.arrays.fast as Float32Array);
  fast[3] = Number.NaN;
  expect(() => predictor.restore({ ...state, arrays: { ...state.arrays, fast } })).toThrow('the value NaN in "fast"');
});

test('recency is nine parts the use rate of half-weight 16 tokens and one of 256, from uniform use on', () => {
  const predictor = createRecency(shape);
  const steps = 300;
  for (let step = 0; step < steps; step++) predictor.observe(at(0), TokenRoutes.fromLayers([[step % 3], [], []]));
  const scores = predict(predictor, 0);
  for (const expert of [0, 1, 2]) {
    let expected = 0;
    for (const [tokens, share] of [
      [16, 0.9],
      [256, 0.1],
    ] as const) {
      const keep = 2 ** (-1 / tokens);
      let rate = shape.expertsPerToken / shape.experts;
      for (let step = 0; step < steps; step++) rate = rate * keep + (step % 3 === expert ? 1 - keep : 0);
      expected += rate * share;
    }
    expect(scores[expert]).toBeCloseTo(expected, 4);
  }
});

test('the token table names what this token id used, and the average token for an unknown id', () => {
  const predictor = createTokenTable(shape);
  for (let step = 0; step < 30; step++) {
    predictor.observe(at(10), TokenRoutes.fromLayers([[1, 2], [3], []]));
    predictor.observe(at(11), TokenRoutes.fromLayers([[5, 6], [3], []]));
  }
  const known = predict(predictor, 10);
  expect(known[1]).toBeGreaterThan(0.9);
  expect(known[5]).toBeLessThan(0.1);
  const unknown = predict(predictor, 99);
  expect(unknown[1]).toBeCloseTo(0.5, 1);
  expect(unknown[8 + 3]).toBeCloseTo(1, 2);
});

test('a full token table forgets the least recently seen id', () => {
  const predictor = createTokenTable(shape, 2 * pages);
  predictor.observe(at(1), TokenRoutes.fromLayers([[1], [], []]));
  predictor.observe(at(2), TokenRoutes.fromLayers([[2], [], []]));
  predictor.observe(at(1), TokenRoutes.fromLayers([[1], [], []]));
  predictor.observe(at(3), TokenRoutes.fromLayers([[3], [], []]));
  expect(predict(predictor, 1)[1]).toBeGreaterThan(0.6);
  expect(predict(predictor, 3)[3]).toBeGreaterThan(0.35);
  expect(predict(predictor, 2)[2]).toBeLessThan(0.4);
  expect((predictor.save().arrays.tokenIds as Uint32Array).length).toBe(2);
});

test('the newer half of a token id counts for more once it was seen often', () => {
  const predictor = createTokenTable(shape);
  for (let step = 0; step < 255; step++) predictor.observe(at(1), TokenRoutes.fromLayers([[1], [], []]));
  for (let step = 0; step < 255; step++) predictor.observe(at(1), TokenRoutes.fromLayers([[2], [], []]));
  const scores = predict(predictor, 1);
  expect(scores[2]).toBeGreaterThan(0.65);
  expect(scores[1]).toBeLessThan(0.35);
});

test('a table with no room for one row is refused', () => {
  expect(() => createTokenTable(shape, pages - 1)).toThrow(`give at least ${pages} bytes`);
});

test('affinity names, at a fault, what follows the experts of the faulting layer', () => {
  const predictor = createAffinity(shape);
  for (let step = 0; step < 64; step++) {
    const first = step % 8;
    predictor.observe(at(0), TokenRoutes.fromLayers([[first], [7 - first], [(first * 3) % 8]]));
  }
  const scores = new Float32Array(pages).fill(0.5);
  expect(predictor.predictBehind(at(0), TokenRoutes.fromLayers([[5], [0], [0]]), 0, scores)).toBe(2);
  const top = new Int32Array(1);
  selectTop(scores, 8, 8, 1, top);
  expect(top[0]).toBe(2);
  selectTop(scores, 16, 8, 1, top);
  expect(top[0]).toBe(7);
  expect([...scores.subarray(0, 8)]).toEqual(Array(8).fill(0.5));
  expect(predictor.predictBehind(at(0), makeRoutes(0, 1), 2, scores)).toBe(0);
});

test('affinity without room for pair counts predicts nothing', () => {
  const predictor = createAffinity(shape, 100);
  teach(predictor, 10);
  expect(predictor.predictBehind(at(0), makeRoutes(0, 1), 0, new Float32Array(pages))).toBe(0);
});

test('a table by the token before names what followed it, and nothing of a first token but the average', () => {
  const predictor = createTokenTable(shape, undefined, 'previous');
  for (let step = 0; step < 60; step++) {
    const tokenId = step % 2;
    const context = { tokenId, position: step, previousId: step === 0 ? null : 1 - tokenId };
    predictor.observe(context, TokenRoutes.fromLayers([[tokenId === 0 ? 1 : 6], [], []]));
  }
  const scores = new Float32Array(pages);
  // What follows id 1 uses expert 1, whatever its own id.
  expect(predictor.predict({ tokenId: 99, position: 60, previousId: 1 }, scores)).toBe(true);
  expect(scores[1]).toBeGreaterThan(0.85);
  expect(predictor.predict({ tokenId: 0, position: 0, previousId: null }, scores)).toBe(true);
  expect(scores[1]).toBeCloseTo(0.5, 1);
  expect(scores[6]).toBeCloseTo(0.5, 1);
});

/** Says the same of every token: one expert in each layer, at 0.9. */
const constant = (name: string, expert: number): Predictor => ({
  ...createRecency(shape),
  name,
  predict(_context, scores) {
    scores.fill(0.02);
    for (let layer = 0; layer < 3; layer++) scores[layer * 8 + expert] = 0.9;
    return true;
  },
  observe() {},
});

test('the ensemble follows the member that was right lately, and changes its mind', () => {
  const ensemble = createEnsemble(shape, [constant('a', 1), constant('b', 2)]);
  const run = (expert: number) => {
    for (let step = 0; step < 600; step++) {
      predict(ensemble, 0);
      ensemble.observe(at(0), TokenRoutes.fromLayers([[expert], [expert], [expert]]));
    }
    const top = new Int32Array(1);
    selectTop(predict(ensemble, 0), 0, 8, 1, top);
    return top[0];
  };
  expect(run(1)).toBe(1);
  expect(run(2)).toBe(2);
});

test('what the ensemble says is calibrated: an over-confident member is believed as far as it is right', () => {
  const ensemble = createEnsemble(shape, [constant('a', 1)]);
  // Expert 1 in three tokens of ten, another one otherwise: the average alone cannot tell which token.
  for (let step = 0; step < 6000; step++) {
    predict(ensemble, 0);
    const expert = (step * 37) % 101 < 30 ? 1 : ([0, 2, 3, 4, 5, 6, 7][step % 7] as number);
    ensemble.observe(at(0), TokenRoutes.fromLayers([[expert], [expert], [expert]]));
  }
  const scores = predict(ensemble, 0);
  for (const layer of [0, 1, 2]) expect(scores[layer * 8 + 1]).toBeCloseTo(0.3, 1);
});

test('an ensemble with one more member learns from the state of a smaller one', () => {
  const small = createPredictor('ensemble', shape, { looksAhead: false }) as Predictor;
  const large = createPredictor('ensemble', shape, { looksAhead: true }) as Predictor;
  teach(small, 300);
  large.restore(structuredClone(small.save()));
  const [known, unknown] = [
    predict(large, 1),
    predict(createPredictor('ensemble', shape, { looksAhead: true }) as Predictor, 1),
  ];
  expect(unknown).toEqual(new Float32Array(pages));
  expect(known[1]).toBeGreaterThan(0.4);
});

test('look-ahead believes routers by how often they were right at that distance', () => {
  const lookahead = createLookahead(shape);
  const scores = new Float32Array(pages);
  // Routers name experts 0 and 1 of both layers behind; the next layer uses both, the one after it others.
  const run = () => {
    expect(lookahead.predict(at(0), scores)).toBe(false);
    const guess = TokenRoutes.fromLayers([
      [4, 5],
      [0, 1],
      [0, 1],
    ]);
    expect(lookahead.predictBehind(at(0), guess, 0, scores)).toBe(2);
    lookahead.observe(
      at(0),
      TokenRoutes.fromLayers([
        [4, 5],
        [0, 1],
        [6, 7],
      ]),
    );
  };
  for (let step = 0; step < 600; step++) run();
  expect(scores[8]).toBeGreaterThan(0.9);
  expect(scores[8 + 5]).toBeLessThan(0.05);
  expect(scores[16]).toBeLessThan(0.1);
  const restored = createLookahead(shape);
  restored.restore(structuredClone(lookahead.save()));
  const again = new Float32Array(pages);
  restored.predictBehind(
    at(0),
    TokenRoutes.fromLayers([
      [4, 5],
      [0, 1],
      [0, 1],
    ]),
    0,
    again,
  );
  expect(again[8]).toBeCloseTo(scores[8] as number, 2);
});

test('look-ahead knows nothing where no router ran', () => {
  const lookahead = createLookahead(shape);
  expect(lookahead.predictBehind(at(0), TokenRoutes.fromLayers([[4, 5], [], []]), 0, new Float32Array(pages))).toBe(0);
});

test('selectTop orders by score, then by the lower id, and leaves zeros out', () => {
  const scores = Float32Array.of(9, 0, 0.5, 0.75, 0.5, 0, 0.75, 0.25);
  const top = new Int32Array(6);
  expect(selectTop(scores, 1, 7, 6, top)).toBe(5);
  expect([...top.subarray(0, 5)]).toEqual([2, 5, 1, 3, 6]);
  expect(selectTop(scores, 1, 7, 3, top)).toBe(3);
  expect([...top.subarray(0, 3)]).toEqual([2, 5, 1]);
  expect(selectTop(scores, 1, 7, 0, top)).toBe(0);
});
