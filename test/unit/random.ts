/** Seeded random numbers for property tests (mulberry32). Never used where the quality of randomness matters. */

export interface Random {
  /** From 0 to below 1. */
  number(): number;
  /** Both ends included. */
  integer(low: number, high: number): number;
  pick<T>(values: readonly T[]): T;
  /** `count` different integers below `below`, in random order. */
  sample(below: number, count: number): number[];
}

export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  const number = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const integer = (low: number, high: number): number => low + Math.floor(number() * (high - low + 1));
  return {
    number,
    integer,
    pick: (values) => values[integer(0, values.length - 1)] as (typeof values)[number],
    sample(below, count) {
      const all = Array.from({ length: below }, (_, i) => i);
      return Array.from({ length: count }, () => all.splice(integer(0, all.length - 1), 1)[0] as number);
    },
  };
}
