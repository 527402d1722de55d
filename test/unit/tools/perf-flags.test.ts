import { expect, test } from 'vitest';
import { parsePerfFlags } from '../../../tools/perf/flags.ts';
import { ladderPrompts } from '../../../tools/perf/prompts.ts';
import { tableNames } from '../../../tools/perf/results.ts';

test('without flags every table of this version runs in the browser', () => {
  expect(parsePerfFlags([])).toEqual({
    tables: tableNames,
    runtime: 'browser',
    runs: 3,
    tokens: 64,
    prompts: null,
    chromeArgs: [],
    json: false,
  });
});

test('tables run once each, in their own order', () => {
  expect(parsePerfFlags('--table storage --table decode --table storage'.split(' ')).tables).toEqual([
    'decode',
    'storage',
  ]);
});

test('Node runs what needs no browser', () => {
  expect(parsePerfFlags(['--runtime', 'node']).tables).toEqual(
    tableNames.filter((name) => !['structured', 'peers', 'faults', 'storage'].includes(name)),
  );
  expect(() => parsePerfFlags('--runtime node --table storage'.split(' '))).toThrow(
    expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringContaining('--runtime browser') }),
  );
});

test.each([['--adapter', 'swiftshader'] as const, ['--chrome-arg', '--headless'] as const])(
  'Node starts no Chromium that %s could be for',
  (flag, value) => {
    const refused = { code: 'BAD_ARGUMENT', message: expect.stringContaining(flag) };
    expect(() => parsePerfFlags(['--runtime', 'node', flag, value])).toThrow(expect.objectContaining(refused));
    expect(parsePerfFlags(['--runtime', 'browser', flag, value]).chromeArgs).toHaveLength(1);
  },
);

test.each([
  ['--table', 'speed'],
  ['--runs', '0'],
  ['--runs', '1.5'],
  ['--tokens', '1'],
  ['--prompt-count', '3'],
  ['--runtime', 'deno'],
])('%s %s is refused', (...args) => {
  expect(() => parsePerfFlags(args)).toThrow(
    expect.objectContaining({ code: 'BAD_ARGUMENT', message: expect.stringContaining(args[0] as string) }),
  );
});

test('prompts are three of 60 to 120 words', () => {
  expect(ladderPrompts).toHaveLength(3);
  for (const { text } of ladderPrompts) {
    const words = text.split(/\s+/).length;
    expect(words).toBeGreaterThanOrEqual(60);
    expect(words).toBeLessThanOrEqual(120);
  }
});
