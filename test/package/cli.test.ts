/**
 * `npm run generate` from the outside: what is on stdout and stderr, the exit status, and that flags do what they say.
 * Each run is a browser of its own, so a run checks several things.
 */
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@playwright/test';
import type { GenerateResult } from '../../src/engine/engine';
import { createHubFile, startHub } from '../hub/hub';
import { type Finished, repositoryRoot, runToEnd } from './command';

test.describe.configure({ mode: 'serial' });

let folder: string;
let modelPath: string;
let first: GenerateResult;

test.beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webmoe-cli-'));
  const { url } = JSON.parse(await readFile(join(repositoryRoot, 'public/models/default.json'), 'utf8'));
  modelPath = join(repositoryRoot, 'public', url);
});

test.afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** As the contract calls it; in a folder that is not the repository, as npm allows. */
function generate(...flags: string[]): Promise<Finished> {
  const npm = ['run', '--silent', '--prefix', repositoryRoot, 'generate', '--', ...flags];
  return runToEnd('npm', npm, { cwd: folder, limitMs: 120_000 });
}

async function generateJson(...flags: string[]): Promise<GenerateResult & { stderr: string }> {
  const finished = await generate(...flags, '--json');
  expect(finished.status, finished.stderr).toBe(0);
  expect(finished.stdout).toMatch(/^\{.*\}\n$/);
  return { ...JSON.parse(finished.stdout), stderr: finished.stderr };
}

async function expectFailure(flags: readonly string[], lastLine: RegExp): Promise<void> {
  const finished = await generate(...flags, '--json');
  expect(finished.lastLine, finished.stderr).toMatch(lastLine);
  expect(finished.status).toBe(1);
  expect(finished.stdout).toBe('');
}

test('puts one JSON object with the fields of the contract on stdout, and nothing else', async () => {
  first = await generateJson('--prompt', 'Hello', '--max-tokens', '8', '--ignore-eos', '--top-logprobs', '3');
  expect(first.tokenIds).toHaveLength(8);
  expect(first.finishReason).toBe('length');
  expect(first.logprobs.map(({ tokenId }) => tokenId)).toEqual(first.tokenIds);
  for (const { tokenId, logprob, top } of first.logprobs) {
    expect(top).toHaveLength(3);
    // Greedy: the chosen token is the most likely one.
    expect(top[0]).toEqual([tokenId, logprob]);
    expect(top.map(([, value]) => value)).toEqual(top.map(([, value]) => value).sort((a, b) => b - a));
    expect(logprob).toBeLessThanOrEqual(0);
  }
  const { stats } = first;
  expect(stats).toMatchObject({ promptTokens: first.promptTokenIds.length, generatedTokens: 8, hitRate: 1 });
  const numbers = ['prefillMs', 'decodeMs', 'slotsPerLayer', 'faultingLayers', 'roundTrips', 'submits'] as const;
  for (const name of numbers) expect(stats[name], name).toEqual(expect.any(Number));
  for (const name of ['layersExecuted', 'plannedGpuBytes', 'peakGpuBytes'] as const) {
    expect(stats[name], name).toBeGreaterThan(0);
  }
  expect(stats.uploadBytes).toEqual({ demand: 0, useful: 0, wasted: 0 });
  expect(stats.adapter).not.toBe('');
  expect(Object.keys(stats.variants)).not.toEqual([]);
});

test('--token-ids, --expert-budget and --store memory give the same bits', async () => {
  const ids = first.promptTokenIds.join(',');
  const same = ['--max-tokens', '8', '--ignore-eos', '--top-logprobs', '3'];
  const paged = await generateJson('--token-ids', ids, ...same, '--expert-budget', '25%', '--store', 'memory');
  expect(paged.promptTokenIds).toEqual(first.promptTokenIds);
  expect(paged.tokenIds).toEqual(first.tokenIds);
  expect(paged.logprobs).toEqual(first.logprobs);
  expect(paged.stats.slotsPerLayer).toBeLessThan(first.stats.slotsPerLayer);
  expect(paged.stats.uploadBytes.demand).toBeGreaterThan(0);
});

test('--profile keeps the model: the second run installs nothing; --messages and --seed are obeyed', async () => {
  const messagesPath = join(folder, 'messages.json');
  await writeFile(messagesPath, JSON.stringify([{ role: 'user', content: 'Hello' }]));
  const flags = ['--messages', messagesPath, '--max-tokens', '8', '--ignore-eos', '--profile', join(folder, 'profile')];
  const sampling = ['--temperature', '1.5', '--top-k', '40'];
  const one = await generateJson(...flags, ...sampling, '--seed', '7');
  expect(one.stderr).toMatch(/^install: \d+ bytes$/m);
  expect(one.promptTokenIds).toEqual(first.promptTokenIds);
  const again = await generateJson(...flags, ...sampling, '--seed', '7', '--expert-budget', '50%');
  expect(again.stderr).not.toMatch(/^install/m);
  expect(again.tokenIds).toEqual(one.tokenIds);
  expect(again.logprobs).toEqual(one.logprobs);
  const other = await generateJson(...flags, ...sampling, '--seed', '8');
  expect(other.tokenIds).not.toEqual(one.tokenIds);
});

test('a slow download ends before the answer begins: the counters do not depend on it', async () => {
  const file = createHubFile(await readFile(modelPath));
  // Slower than what the engine by itself would wait for.
  const hub = await startHub({ repositories: { 'some/model': { 'model.gguf': file } }, bytesPerSecond: 1_200_000 });
  try {
    const url = `${hub.url}some/model/resolve/main/model.gguf`;
    const { tokenIds, stats } = await generateJson(
      '--model',
      url,
      '--prompt',
      'Hello',
      '--max-tokens',
      '8',
      '--ignore-eos',
    );
    expect(tokenIds).toEqual(first.tokenIds);
    expect(stats).toMatchObject({ hitRate: 1, faultingLayers: 0, uploadBytes: { demand: 0, useful: 0, wasted: 0 } });
  } finally {
    await hub.close();
  }
});

test('without --json, stdout is the text; --stop ends it before the stop text', async () => {
  const words = first.text.trim().split(/\s+/);
  const stop = words[Math.floor(words.length / 2)] ?? '';
  const finished = await generate('--prompt', 'Hello', '--max-tokens', '8', '--ignore-eos', '--stop', stop);
  expect(finished.status, finished.stderr).toBe(0);
  expect(finished.stdout).toBe(`${first.text.slice(0, first.text.indexOf(stop))}\n`);
});

test('refuses a flag, a value and a file at once, naming them', async () => {
  await expectFailure(['--promt', 'x'], /^BAD_ARGUMENT: .*--promt/);
  await expectFailure(['--prompt', 'x', '--seed', '-1'], /^BAD_ARGUMENT: .*seed.*-1/);
  const missing = join(folder, 'missing.gguf');
  await expectFailure(['--prompt', 'x', '--model', missing], /^BAD_ARGUMENT: .*missing\.gguf.*does not exist/);
});

test('refuses a truncated model, naming what is missing', async () => {
  const path = join(folder, 'truncated.gguf');
  const [source, target] = [await open(modelPath), await open(path, 'w')];
  await target.write((await source.read(Buffer.alloc(100_000), 0, 100_000)).buffer);
  await Promise.all([source.close(), target.close()]);
  await expectFailure(['--prompt', 'x', '--model', path], /^BAD_FILE: .*truncated\.gguf.*100000/);
});

test('refuses a budget below the smallest, and names the smallest', async () => {
  await expectFailure(
    ['--prompt', 'x', '--expert-budget', '1%'],
    /^BUDGET_TOO_SMALL: .*smallest budget is \d+ bytes or \d+%/,
  );
});

test('refuses a prompt that does not fit the context', async () => {
  const flags = ['--prompt', 'one two three four five six seven eight nine ten eleven twelve', '--context', '8'];
  await expectFailure(flags, /^CONTEXT_OVERFLOW: .*\b8\b/);
});
