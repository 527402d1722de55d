import { expect, test } from 'vitest';
import { createAffinity } from '../../../src/routing/affinity';
import { createEnsemble } from '../../../src/routing/ensemble';
import type { Predictor, PredictorState } from '../../../src/routing/predictor';
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
  ['ensemble', (of) => createEnsemble(of, [createRecency(of), createTokenTable(of), createAffinity(of)])],
];

const at = (tokenId: number) => ({ tokenId, startsSequence: false });

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
    { ...good, version: 2 },
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

test('recency is the mean of the use rates with half-weights of 16 and 256 tokens', () => {
  const predictor = createRecency(shape);
  const steps = 300;
  for (let step = 0; step < steps; step++) predictor.observe(at(0), TokenRoutes.fromLayers([[step % 3], [], []]));
  const scores = predict(predictor, 0);
  for (const expert of [0, 1, 2]) {
    let expected = 0;
    for (const tokens of [16, 256]) {
      let [used, all] = [0, 0];
      for (let step = 0; step < steps; step++) {
        const weight = 2 ** ((step - steps) / tokens);
        all += weight;
        if (step % 3 === expert) used += weight;
      }
      expected += used / all / 2;
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
  expect(known[1]).toBeGreaterThan(0.95);
  expect(known[5]).toBeLessThan(0.05);
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
  expect(predict(predictor, 1)[1]).toBeGreaterThan(0.7);
  expect(predict(predictor, 3)[3]).toBeGreaterThan(0.5);
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

test('the ensemble follows the member that was right lately, and changes its mind', () => {
  const constant = (name: string, expert: number): Predictor => ({
    ...createRecency(shape),
    name,
    predict(_context, scores) {
      scores.fill(0);
      for (let layer = 0; layer < 3; layer++) scores[layer * 8 + expert] = 0.9;
    },
    observe() {},
  });
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

test('selectTop orders by score, then by the lower id, and leaves zeros out', () => {
  const scores = Float32Array.of(9, 0, 0.5, 0.75, 0.5, 0, 0.75, 0.25);
  const top = new Int32Array(6);
  expect(selectTop(scores, 1, 7, 6, top)).toBe(5);
  expect([...top.subarray(0, 5)]).toEqual([2, 5, 1, 3, 6]);
  expect(selectTop(scores, 1, 7, 3, top)).toBe(3);
  expect([...top.subarray(0, 3)]).toEqual([2, 5, 1]);
  expect(selectTop(scores, 1, 7, 0, top)).toBe(0);
});
