import { expect, test } from 'vitest';
import { DraftController, type DraftSource } from '../../../src/drafting/draft-controller';
import { createRandom } from '../random';

interface Device {
  readonly plainMs: number;
  /** Milliseconds that a guess adds, and how often one holds. */
  readonly sources: Readonly<Partial<Record<DraftSource, { readonly extraMs: number; readonly holds: number }>>>;
  /** Relative spread of a pass's time. */
  readonly noise?: number;
  readonly tokens?: number;
}

/** Plays a text on a device that is all formula. `speed`: tokens per millisecond, over the plain passes' own. */
function play(device: Device, tokens: number, controller = new DraftController(), seed = 1) {
  const random = createRandom(seed);
  const available = new Map(
    Object.keys(device.sources).map((source) => [source as DraftSource, device.tokens ?? 4] as const),
  );
  const passes: Record<DraftSource | 'off', number> = { off: 0, self: 0, lookup: 0, table: 0, grammar: 0 };
  const lengths: number[] = [];
  let made = 0;
  let elapsedMs = 0;
  while (made < tokens) {
    const choice = controller.choose(available);
    const cost = choice.source === 'off' ? undefined : device.sources[choice.source];
    let accepted = 0;
    while (accepted < choice.tokens && random.number() < (cost?.holds ?? 0)) accepted++;
    const spread = 1 + (device.noise ?? 0) * (random.number() - 0.5);
    const passMs = (device.plainMs + choice.tokens * (cost?.extraMs ?? 0)) * spread;
    controller.note(choice, accepted, passMs);
    passes[choice.source]++;
    lengths.push(choice.tokens);
    made += 1 + accepted;
    elapsedMs += passMs;
  }
  return { passes, lengths, speed: (made / elapsedMs) * device.plainMs };
}

test('guesses as many as may be where a guess is nearly free and nearly always holds', () => {
  const { lengths, passes, speed } = play({ plainMs: 100, sources: { self: { extraMs: 5, holds: 0.9 } } }, 1000);
  expect(lengths.filter((tokens) => tokens === 4).length / lengths.length).toBeGreaterThan(0.9);
  expect(passes.off).toBeLessThan(20);
  expect(speed).toBeGreaterThan(2.8);
});

test('takes the length that pays: a dear guess that often fails is made alone', () => {
  const { lengths } = play({ plainMs: 100, sources: { self: { extraMs: 35, holds: 0.6 } }, noise: 0.1 }, 3000);
  const late = lengths.slice(100).filter((tokens) => tokens > 0);
  expect(late.filter((tokens) => tokens === 1).length / late.length).toBeGreaterThan(0.8);
});

test.each([
  { why: 'every row costs a whole pass', extraMs: 180, holds: 0.9 },
  { why: 'guesses fail', extraMs: 30, holds: 0.05 },
  { why: 'nothing is gained', extraMs: 90, holds: 0.9 },
])('goes without guesses where $why, at a cost of less than 3 %', ({ extraMs, holds }) => {
  for (let seed = 1; seed <= 20; seed++) {
    const device = { plainMs: 100, sources: { self: { extraMs, holds } }, noise: 0.2 };
    expect(play(device, 400, undefined, seed).speed).toBeGreaterThan(0.97);
  }
});

test('two guesses show what a row costs, whichever source they are from; a trial then speaks for all of them', () => {
  const rows = { extraMs: 120, holds: 0.6 };
  const device = { plainMs: 100, sources: { lookup: rows, table: rows, grammar: rows }, noise: 0.2 };
  for (let seed = 1; seed <= 20; seed++) {
    const { passes, speed } = play(device, 140, undefined, seed);
    expect(passes.lookup + passes.table + passes.grammar).toBeLessThanOrEqual(5);
    expect(speed).toBeGreaterThan(0.97);
  }
});

test('finds the better of two sources', () => {
  const sources = { self: { extraMs: 40, holds: 0.9 }, lookup: { extraMs: 10, holds: 0.8 } };
  const { passes } = play({ plainMs: 100, sources, noise: 0.2 }, 2000);
  expect(passes.lookup).toBeGreaterThan(10 * (passes.self + passes.off));
});

test('notices that the device or the text has changed', () => {
  const controller = new DraftController();
  const slow = { plainMs: 100, sources: { self: { extraMs: 10, holds: 0.9 } } };
  const fast = { plainMs: 20, sources: { self: { extraMs: 60, holds: 0.9 } } };
  expect(play(slow, 300, controller).passes.self).toBeGreaterThan(40);
  const turned = play(fast, 1000, controller).passes;
  expect(turned.off).toBeGreaterThan(0.8 * (turned.off + turned.self));
  const again = play(slow, 3000, controller).passes;
  expect(again.self).toBeGreaterThan(again.off);
});

test('forgets what it measured with another number of slots', () => {
  const controller = new DraftController();
  controller.setSlots(8);
  play({ plainMs: 100, sources: { self: { extraMs: 5, holds: 0.9 } } }, 200, controller);
  const available = new Map<DraftSource, number>([['self', 4]]);
  expect(controller.choose(available).source).toBe('self');
  controller.setSlots(8);
  expect(controller.choose(available).source).toBe('self');
  controller.setSlots(16);
  expect(controller.choose(available)).toEqual({ source: 'off', tokens: 0 });
});

test('never chooses a source that has nothing, nor more than it has', () => {
  const controller = new DraftController();
  play({ plainMs: 100, sources: { lookup: { extraMs: 1, holds: 1 } } }, 200, controller);
  expect(controller.choose(new Map([['lookup', 0]]))).toEqual({ source: 'off', tokens: 0 });
  expect(controller.choose(new Map([['lookup', 2]]))).toEqual({ source: 'lookup', tokens: 2 });
  expect(controller.choose(new Map())).toEqual({ source: 'off', tokens: 0 });
});

test('does not draft where the text shows that a row costs nearly a pass, and does again where it no longer does', () => {
  const controller = new DraftController();
  const dear = { self: { extraMs: 180, holds: 0.9 }, table: { extraMs: 80, holds: 0.5 } };
  expect(play({ plainMs: 100, sources: dear, noise: 0.2 }, 1000, controller).passes.self).toBe(0);
  // Waiting is now most of a pass.
  const waits = { self: { extraMs: 20, holds: 0.9 }, table: { extraMs: 5, holds: 0.2 } };
  const later = play({ plainMs: 300, sources: waits, noise: 0.2 }, 3000, controller);
  expect(later.passes.self).toBeGreaterThan(later.passes.off);
  expect(later.speed).toBeGreaterThan(2);
});

test('drafts though the text never repeats itself', () => {
  const controller = new DraftController();
  const available = new Map<DraftSource, number>([
    ['self', 4],
    ['table', 0],
  ]);
  const sources = Array.from({ length: 60 }, () => {
    const choice = controller.choose(available);
    controller.note(choice, choice.tokens, 100 + 10 * choice.tokens);
    return choice.source;
  });
  expect(sources.slice(0, 20)).not.toContain('self');
  expect(sources.slice(30)).not.toContain('off');
});

test('a first pass that compiles its kernels is not what a guess costs', () => {
  const controller = new DraftController();
  const available = new Map([['table', 4]] as const);
  const sources: string[] = [];
  for (let pass = 0; pass < 12; pass++) {
    const choice = controller.choose(available);
    const isFirst = choice.source === 'table' && !sources.includes('table');
    sources.push(choice.source);
    controller.note(choice, choice.tokens, choice.source === 'off' ? 50 : isFirst ? 1000 : 50 + 5 * choice.tokens);
  }
  expect(sources.slice(4)).not.toContain('off');
});
