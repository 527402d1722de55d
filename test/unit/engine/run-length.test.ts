import { describe, expect, test } from 'vitest';
import { RunLength } from '../../../src/engine/run-length';
import { createRandom } from '../random';

interface Device {
  /** Faults of a token whose pages were forecast before it began, and of one that began behind another. */
  readonly aloneFaults: number;
  readonly onFaults: number;
  /** P(a token that began behind another has no fault). */
  readonly free: number;
  /** What a fault takes, a round trip being the unit. */
  readonly faultMs: number;
  /** Pages that a forecast brings in before a token. */
  readonly forecastPages?: number;
}

const state = { most: 8, isWhole: false, slots: 16 };
const costs = { tokenMs: 10, roundTripMs: 1, deadTokenMs: 0.5 };

/** Plays a text on a device that is all formula; returns what a token cost beside its arithmetic, and the lengths. */
function play(
  { aloneFaults, onFaults, free, faultMs, forecastPages = 0 }: Device,
  tokens: number,
  runs = new RunLength(),
) {
  const random = createRandom(1);
  const count = (mean: number): number => Math.floor(mean) + (random.number() < mean % 1 ? 1 : 0);
  const lengths: number[] = [];
  let made = 0;
  let cost = 0;
  while (made < tokens) {
    const length = runs.choose(state, costs);
    let ended = 1;
    while (ended < length && random.number() < free) ended++;
    const isAlone = length === 1;
    const faults = Array.from({ length: ended }, () => count(isAlone ? aloneFaults : onFaults)).reduce((a, b) => a + b);
    // A submission for every fault, and one that comes to none.
    const smoothTrips = isAlone || ended === length ? 1 : 0;
    const unreached = Math.max(0, length - ended - 1);
    const spentMs = faults * faultMs + smoothTrips + unreached * costs.deadTokenMs;
    const passMs = ended * costs.tokenMs + spentMs * (0.9 + 0.2 * random.number());
    const roundTrips = faults + smoothTrips;
    runs.note({ count: length, ended, faults, roundTrips, unreached, forecastPages, passMs }, costs);
    lengths.push(length);
    made += ended;
    cost += spentMs;
  }
  return { cost: cost / made, lengths };
}

describe('tokens of a submission', () => {
  test('go on where they have no more faults than alone, and are seldom alone again', () => {
    const { lengths } = play({ aloneFaults: 1.2, onFaults: 1.2, free: 0.1, faultMs: 2 }, 1000);
    expect(lengths.filter((length) => length === 1).length).toBeLessThan(100);
    expect(Math.max(...lengths.slice(100))).toBeGreaterThan(1);
  });

  test.each([
    { why: 'more', device: { aloneFaults: 1.1, onFaults: 2, free: 0.05, faultMs: 4.5 } },
    { why: 'a few more, each of them dear', device: { aloneFaults: 0.5, onFaults: 0.9, free: 0.4, faultMs: 4.5 } },
  ])('come alone where behind another they have $why, at a cost of little more', ({ device }) => {
    const { cost, lengths } = play(device, 1000);
    expect(lengths.filter((length) => length > 1).length).toBeLessThan(40);
    expect(cost).toBeLessThan(1.03 * (1 + device.aloneFaults * device.faultMs));
  });

  test.each([
    { why: 'a round trip is little beside faults', device: { aloneFaults: 2, onFaults: 2, free: 0.1, faultMs: 9 } },
    {
      why: 'forecasts bring in pages',
      device: { aloneFaults: 0.2, onFaults: 0.2, free: 0.9, faultMs: 2, forecastPages: 2 },
    },
  ])('are not even tried behind another where $why', ({ device }) => {
    expect(Math.max(...play(device, 400).lengths)).toBe(1);
  });

  test('are as many as come to their end', () => {
    const { lengths } = play({ aloneFaults: 0.05, onFaults: 0.05, free: 0.95, faultMs: 4 }, 1000);
    expect(lengths.filter((length) => length === 8).length).toBeGreaterThan(lengths.length / 2);
  });

  test('are as many as there is a use for, where every page is resident, in bursts of a tenth of a second', () => {
    const runs = new RunLength();
    const whole = { ...state, isWhole: true };
    expect(runs.choose(whole, costs)).toBe(8);
    expect(runs.choose({ ...whole, most: 3 }, costs)).toBe(3);
    expect(runs.choose(whole, { ...costs, tokenMs: 30 })).toBe(3);
    expect(runs.choose(whole, { ...costs, tokenMs: 80 })).toBe(1);
    expect(runs.choose(whole, { ...costs, tokenMs: null })).toBe(1);
  });

  test('are tried anew with another number of slots', () => {
    const runs = new RunLength();
    play({ aloneFaults: 0.1, onFaults: 0.1, free: 0.9, faultMs: 2 }, 200, runs);
    expect(runs.choose(state, costs)).toBeGreaterThan(1);
    expect(runs.choose({ ...state, slots: 8 }, costs)).toBe(1);
  });
});
