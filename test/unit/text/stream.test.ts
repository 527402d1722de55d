import { describe, expect, it } from 'vitest';
import { createDetokenizer } from '../../../src/text/detokenizer';
import { createStopFilter } from '../../../src/text/stop-strings';

describe('the detokenizer', () => {
  it('never splits a character, however its bytes arrive', () => {
    const text = 'aé漢🏳️‍🌈\ufeffz';
    const bytes = new TextEncoder().encode(text);
    for (const step of [1, 2, 3, 5]) {
      const detokenizer = createDetokenizer();
      let out = '';
      for (let at = 0; at < bytes.length; at += step) {
        const piece = detokenizer.push(bytes.slice(at, at + step));
        expect(piece).not.toContain('\ufffd');
        expect(piece).not.toMatch(/\p{Surrogate}/u);
        out += piece;
        expect(text.startsWith(out)).toBe(true);
      }
      expect(out + detokenizer.flush()).toBe(text);
    }
  });

  it('shows bytes that cannot become a character as U+FFFD', () => {
    const detokenizer = createDetokenizer();
    expect(detokenizer.push(Uint8Array.of(0xe6, 0xbc))).toBe('');
    expect(detokenizer.push(Uint8Array.of(0x41))).toBe('\ufffdA');
    expect(detokenizer.push(Uint8Array.of(0xff))).toBe('\ufffd');
  });

  it('flushes an unfinished character, and starts afresh', () => {
    const detokenizer = createDetokenizer();
    expect(detokenizer.push(Uint8Array.of(0xf0, 0x9f))).toBe('');
    expect(detokenizer.flush()).toBe('\ufffd');
    expect(detokenizer.push(Uint8Array.of(0x42))).toBe('B');
    expect(detokenizer.flush()).toBe('');
  });
});

describe('the stop filter', () => {
  /** What comes out of a text pushed in pieces of a length, and whether it stopped. */
  function run(stops: readonly string[], text: string, step: number): { text: string; stopped: boolean } {
    const filter = createStopFilter(stops);
    let out = '';
    for (let at = 0; at < text.length; at += step) {
      const { emit, stopped } = filter.push(text.slice(at, at + step));
      out += emit;
      if (stopped) return { text: out, stopped };
    }
    return { text: out + filter.flush(), stopped: false };
  }

  it.each([1, 2, 3, 7, 100])('stops before a stop text, in pieces of %i', (step) => {
    expect(run(['\nUser:'], 'Hello\nUs\nUser: more', step)).toEqual({ text: 'Hello\nUs', stopped: true });
    expect(run(['aab'], 'aaaaaab', step)).toEqual({ text: 'aaaa', stopped: true });
    expect(run(['abc', 'b'], 'xabc', step).stopped).toBe(true);
    expect(run(['never', 'nor'], 'now or neve', step)).toEqual({ text: 'now or neve', stopped: false });
    expect(run([], 'anything', step)).toEqual({ text: 'anything', stopped: false });
  });

  it('stops at the earliest of several', () => {
    expect(run(['world', 'lo'], 'hello world', 100)).toEqual({ text: 'hel', stopped: true });
  });

  it('holds back no more than what may begin a stop text', () => {
    const filter = createStopFilter(['###', '<stop>']);
    expect(filter.push('a#').emit).toBe('a');
    expect(filter.push('b').emit).toBe('#b');
    expect(filter.push('c<st').emit).toBe('c');
    expect(filter.flush()).toBe('<st');
    expect(filter.flush()).toBe('');
  });

  it('stays stopped', () => {
    const filter = createStopFilter(['x']);
    expect(filter.push('axb')).toEqual({ emit: 'a', stopped: true });
    expect(filter.push('more')).toEqual({ emit: '', stopped: true });
    expect(filter.flush()).toBe('');
  });

  it('agrees with a search of the whole text, on random texts over two letters', () => {
    let seed = 5;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    const getText = (length: number) => Array.from({ length }, () => 'ab'[random(2)]).join('');
    for (let round = 0; round < 2000; round++) {
      const stops = Array.from({ length: 1 + random(2) }, () => getText(2 + random(4)));
      const text = getText(random(24));
      const starts = stops.map((stop) => text.indexOf(stop)).filter((start) => start >= 0);
      const result = run(stops, text, 1 + random(4));
      expect(result.stopped).toBe(starts.length > 0);
      // In pieces, the text that is complete first wins; with one stop text that is the first one.
      if (stops.length === 1) expect(result.text).toBe(text.slice(0, starts[0] ?? text.length));
    }
  });

  it('refuses an empty stop text', () => {
    expect(() => createStopFilter(['a', ''])).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
  });
});
