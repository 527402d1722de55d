import { expect, test } from 'vitest';
import { parseGenerateFlags } from '../../../tools/generate/flags.ts';

test('the defaults are those of the contract', () => {
  expect(parseGenerateFlags(['--prompt', 'Hello'])).toEqual({
    prompt: { kind: 'text', text: 'Hello', raw: false },
    maxTokens: 128,
    sampling: { temperature: 0, seed: 0 },
    stop: [],
    ignoreEos: false,
    paging: {},
    draft: {},
    expertBudget: { percent: 100 },
    json: false,
    chromeArgs: [],
  });
});

test('every flag arrives at its place', () => {
  const args = '--model m.gguf --token-ids 1,2,3 --max-tokens 5 --temperature 0.7 --top-k 40 --top-p 0.9 --min-p 0.05';
  const more =
    '--seed 4294967295 --stop a --stop b --ignore-eos --context 64 --expert-budget 4096 --store memory --subgroups off --packed-dot on --f16 off --subgroup-matrix off --attention-spans 3 --kv-type q8';
  const paging =
    '--predictor affinity --segment-layers 4 --run-ahead off --read-back-every-layer --draft self --draft-tokens 3 --trace t.jsonl';
  const last = '--top-logprobs 3 --json --profile p --adapter swiftshader --chrome-arg --a=b --chrome-arg=--c';
  expect(parseGenerateFlags(`${args} ${more} ${paging} ${last}`.split(' '))).toEqual({
    model: 'm.gguf',
    prompt: { kind: 'tokenIds', tokenIds: [1, 2, 3] },
    maxTokens: 5,
    sampling: { temperature: 0.7, topK: 40, topP: 0.9, minP: 0.05, seed: 4294967295 },
    stop: ['a', 'b'],
    ignoreEos: true,
    contextLength: 64,
    expertBudget: { bytes: 4096 },
    store: 'memory',
    kernels: { subgroups: false, packedDot: true, f16: false, subgroupMatrix: false, attentionSpans: 3 },
    kvType: 'q8',
    paging: { predictor: 'affinity', segmentLayers: 4, runAhead: false, readBackEveryLayer: true },
    draft: { kind: 'self', tokens: 3 },
    trace: 't.jsonl',
    topLogprobs: 3,
    json: true,
    profile: 'p',
    chromeArgs: ['--use-webgpu-adapter=swiftshader', '--a=b', '--c'],
  });
});

test('JSON always asks for the log-probabilities of the chosen tokens', () => {
  expect(parseGenerateFlags(['--prompt', 'a', '--json']).topLogprobs).toBe(0);
});

test('a text may begin with a dash', () => {
  expect(parseGenerateFlags(['--prompt', '- one']).prompt).toMatchObject({ text: '- one' });
});

test('every predictor of the engine may be named, the learned ones too', () => {
  for (const predictor of ['none', 'lookahead', 'learned', 'ensemble+learned'])
    expect(parseGenerateFlags(['--prompt', 'a', '--predictor', predictor]).paging).toEqual({ predictor });
});

test.each([
  ['', 'exactly one of --prompt'],
  ['--prompt a --token-ids 1', 'exactly one of --prompt'],
  ['--prompt a --bogus', '--bogus'],
  ['--prompt a stray', 'stray'],
  ['--prompt a --json=1', '--json'],
  ['--prompt a --seed 1 --seed 2', '--seed is given twice'],
  ['--prompt a --seed -1', '--seed is "-1"; allowed: a whole number, 0 or more, at most 4294967295'],
  ['--prompt a --max-tokens 0', '--max-tokens is "0"'],
  ['--prompt a --max-tokens 1e99', '--max-tokens is "1e99"'],
  ['--prompt a --temperature NaN', '--temperature is "NaN"'],
  ['--prompt a --top-p 0', '--top-p is "0"; allowed: a number, above 0, at most 1'],
  ['--prompt a --expert-budget 0%', '--expert-budget is "0%"'],
  ['--prompt a --expert-budget 101%', '--expert-budget is "101%"'],
  ['--prompt a --expert-budget 1.5', '--expert-budget is "1.5"'],
  ['--prompt a --store disk', '--store is "disk"; allowed: indexeddb, opfs, memory, auto'],
  ['--prompt a --adapter gpu', '--adapter is "gpu"; allowed: default, swiftshader'],
  ['--prompt a --predictor best', '--predictor is "best"; allowed: none, recency, token, affinity, lookahead'],
  ['--prompt a --segment-layers 0', '--segment-layers is "0"; allowed: a whole number, 1 or more'],
  ['--prompt a --run-ahead yes', '--run-ahead is "yes"; allowed: on, off'],
  ['--prompt a --run-ahead --json', '--run-ahead'],
  ['--prompt a --read-back-every-layer=off', '--read-back-every-layer'],
  ['--prompt a --trace=', '--trace is empty'],
  ['--token-ids 1,,2', '--token-ids is "1,,2"'],
  ['--token-ids 1 --raw', '--raw goes with --prompt only'],
])('refuses "%s" naming flag, value and what is allowed', (line, message) => {
  const args = line === '' ? [] : line.split(' ');
  expect(() => parseGenerateFlags(args)).toThrow(
    expect.objectContaining({ code: 'BAD_ARGUMENT', message: expect.stringContaining(message) }),
  );
});
