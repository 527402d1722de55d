import { expect, test } from 'vitest';
import { parsePerplexityFlags } from '../../../tools/perplexity/flags.ts';

test('the whole file is scored unless told otherwise', () => {
  expect(parsePerplexityFlags(['--file', 'a.jsonl'])).toEqual({
    file: 'a.jsonl',
    maxTokens: Infinity,
    every: 1,
    expertBudget: { percent: 100 },
    json: false,
    chromeArgs: [],
  });
});

test('every flag arrives at its place', () => {
  const line =
    '--model m.gguf --file a --max-tokens 9 --every 28 --context 64 --expert-budget 50% --store memory --json';
  expect(parsePerplexityFlags(`${line} --profile p --chrome-arg --a`.split(' '))).toEqual({
    model: 'm.gguf',
    file: 'a',
    maxTokens: 9,
    every: 28,
    contextLength: 64,
    expertBudget: { percent: 50 },
    store: 'memory',
    json: true,
    profile: 'p',
    chromeArgs: ['--a'],
  });
});

test.each([
  ['', '--file is missing'],
  ['--file=', '--file is empty'],
  ['--file a --file b', '--file is given twice'],
  ['--file a --max-tokens 0', '--max-tokens is "0"; allowed: a whole number, 1 or more'],
  ['--file a --every 1.5', '--every is "1.5"'],
  ['--file a --expert-budget 0', '--expert-budget is "0"'],
  ['--file a --prompt b', '--prompt'],
])('refuses "%s" naming flag, value and what is allowed', (line, message) => {
  const args = line === '' ? [] : line.split(' ');
  expect(() => parsePerplexityFlags(args)).toThrow(
    expect.objectContaining({ code: 'BAD_ARGUMENT', message: expect.stringContaining(message) }),
  );
});
