import { expect, test } from 'vitest';
import type { Predictor } from '../../../src/routing/predictor';
import { createPredictor } from '../../../src/routing/predictors';
import { formatStateFile, parseStateFile } from '../../../src/routing/state-file';
import { TokenRoutes } from '../../../src/routing/token-routes';
import { thinTables } from '../../../tools/teach/thin-tables';

const shape = { layers: 2, experts: 8, expertsPerToken: 2 };

function teach(tokens: number): Predictor {
  const predictor = createPredictor('ensemble', shape, { looksAhead: true }) as Predictor;
  const scores = new Float32Array(16);
  for (let position = 0; position < tokens; position++) {
    // Odd ones come once in a while.
    const getId = (at: number) => (at % 50 === 0 ? 900 + at : at % 5);
    const tokenId = getId(position);
    const context = { tokenId, position, previousId: position === 0 ? null : getId(position - 1) };
    predictor.predict(context, scores);
    predictor.observe(
      context,
      TokenRoutes.fromLayers([
        [tokenId % 5, 5],
        [6, 7 - (tokenId % 5)],
      ]),
    );
  }
  return predictor;
}

function predict(predictor: Predictor, tokenId: number): Float32Array {
  const scores = new Float32Array(16);
  predictor.predict({ tokenId, position: 3, previousId: 2 }, scores);
  return scores;
}

test('an ensemble survives being a file, bit for bit', () => {
  const taught = teach(300);
  const file = formatStateFile(taught.save());
  const state = parseStateFile(file, 'x');
  expect(state).toEqual(taught.save());
  const restored = createPredictor('ensemble', shape, { looksAhead: true }) as Predictor;
  restored.restore(state);
  expect(predict(restored, 3)).toEqual(predict(taught, 3));
  // Also from the middle of a larger buffer, as Node's Buffers are.
  const inside = new Uint8Array(file.length + 3);
  inside.set(file, 3);
  expect(parseStateFile(inside.subarray(3), 'x')).toEqual(state);
});

test.each([
  ['empty', new Uint8Array(3), /3 bytes are fewer/],
  ['header too long', Uint8Array.of(255, 0, 0, 0, 0, 0, 0, 0, 1), /header of 255 bytes does not fit/],
  ['no JSON', Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 7), /not JSON/],
  ['no predictor', Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 123, 125), /names no predictor/],
])('a file that is %s is refused', (_name, file, message) => {
  expect(() => parseStateFile(file, 'a.gz')).toThrow(
    expect.objectContaining({ code: 'BAD_FILE', message: expect.stringMatching(message) }),
  );
});

test('a file that was cut short is refused wherever the cut is', () => {
  const file = formatStateFile(teach(20).save());
  for (let size = 0; size < file.length; size += 97) {
    expect(() => parseStateFile(file.subarray(0, size), 'cut')).toThrow(expect.objectContaining({ code: 'BAD_FILE' }));
  }
});

test('thinned tables drop what was hardly seen and say nearly the same of the rest', () => {
  const taught = teach(2000);
  const thin = thinTables(taught.save());
  const { tokenIds, sightings } =
    (thin.members as unknown as Record<string, { arrays: Record<string, Uint32Array> }>).token?.arrays ?? {};
  expect([...(tokenIds as Uint32Array)].sort()).toEqual([0, 1, 2, 3, 4]);
  expect(Math.max(...(sightings as Uint32Array))).toBe(24);
  const restored = createPredictor('ensemble', shape, { looksAhead: true }) as Predictor;
  restored.restore(thin);
  const [before, after] = [predict(taught, 3), predict(restored, 3)];
  for (const [page, score] of before.entries()) expect(after[page]).toBeCloseTo(score, 1);
});
