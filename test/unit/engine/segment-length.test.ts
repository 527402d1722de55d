import { expect, test } from 'vitest';
import { chooseSegmentLayers } from '../../../src/engine/segment-length';

const choose = (layers: number, roundTripMs: number, deadLayerMs: number, faultsPerToken: number) =>
  chooseSegmentLayers({ layers, roundTripMs, deadLayerMs, faultsPerToken });

test('without faults, or where dead layers cost nothing, a token goes in one submission', () => {
  expect(choose(48, 1, 0.5, 0)).toBe(48);
  expect(choose(48, 1, 0, 20)).toBe(48);
  expect(choose(1, 1, 1, 1)).toBe(1);
});

test('where a round trip costs nothing every layer is waited for', () => {
  expect(choose(48, 0, 0.1, 5)).toBe(1);
});

test('in between it is about sqrt(2 R / (p c)), and divides the layers well', () => {
  // R = 2, c = 0.1, p = 20 / 48: sqrt(4 / 0.0417) = 9.8, and 48 is four twelves.
  expect(choose(48, 2, 0.1, 20)).toBe(12);
  // A last segment of one layer would cost a whole round trip.
  expect(choose(6, 1, 0.5, 3)).toBe(3);
});

test('longer round trips never make shorter segments, more faults never longer ones', () => {
  for (let step = 1; step < 40; step++) {
    expect(choose(26, step / 4, 0.1, 8)).toBeGreaterThanOrEqual(choose(26, (step - 1) / 4, 0.1, 8));
    expect(choose(26, 1, 0.1, step)).toBeLessThanOrEqual(choose(26, 1, 0.1, step - 1));
  }
});
