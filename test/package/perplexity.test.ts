/**
 * `npm run perplexity` from the outside, against the loss that transformers has on the same model file
 * (test/oracle/make_perplexity.py). Each run is a browser of its own.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from '@playwright/test';
import type { Loss, LossReport } from '../../tools/perplexity/loss.ts';
import { type Finished, repositoryRoot, runToEnd } from './command';

/** Relative difference of a float32 engine's loss: sums in another order, and experts that are nearly tied. */
const tolerance = 0.002;

interface Golden {
  readonly name: string;
  /** Of the model file. */
  readonly sha256: string;
  readonly documents: LossReport & { readonly file: string };
  readonly text: Loss & { readonly file: string; readonly context: number };
}

const goldenFolder = join(repositoryRoot, 'test/golden');
let folder: string;
let golden: Golden;

test.beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webmoe-perplexity-'));
  golden = JSON.parse(await readFile(join(goldenFolder, 'perplexity.json'), 'utf8'));
  const { url } = JSON.parse(await readFile(join(repositoryRoot, 'public/models/default.json'), 'utf8'));
  const sha256 = createHash('sha256')
    .update(await readFile(join(repositoryRoot, 'public', url)))
    .digest('hex');
  const remedy = `python test/oracle/make_perplexity.py public/${url}`;
  expect(sha256, `test/golden/perplexity.json is not of public/${url}; make it again: ${remedy}`).toBe(golden.sha256);
});

test.afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

function perplexity(...flags: string[]): Promise<Finished> {
  const npm = ['run', '--silent', '--prefix', repositoryRoot, 'perplexity', '--', ...flags];
  return runToEnd('npm', npm, { cwd: folder, limitMs: process.env.WEBMOE_FULL ? 600_000 : 240_000 });
}

async function measure(...flags: string[]): Promise<LossReport> {
  const finished = await perplexity(...flags, '--json');
  expect(finished.status, finished.stderr).toBe(0);
  expect(finished.stdout).toMatch(/^\{.*\}\n$/);
  expect(finished.stderr).toMatch(/^scored: \d+ of \d+ documents/m);
  return JSON.parse(finished.stdout);
}

function expectLoss(actual: Loss | undefined, expected: Loss): void {
  expect(actual).toMatchObject({ tokens: expected.tokens, bytes: expected.bytes });
  for (const name of ['nll', 'bitsPerByte'] as const) {
    expect(Math.abs((actual?.[name] ?? 0) / expected[name] - 1), name).toBeLessThan(tolerance);
  }
  expect(actual?.perplexity).toBeCloseTo(Math.exp((actual?.nll ?? 0) / expected.tokens), 6);
}

test('scores chat documents as transformers does, by source, also when experts are paged', async () => {
  const path = join(folder, 'documents.jsonl.gz');
  await writeFile(path, gzipSync(await readFile(join(goldenFolder, golden.documents.file))));
  const report = await measure('--file', path, '--expert-budget', '50%');
  expect(Object.keys(report)).toEqual(['tokens', 'nll', 'bytes', 'bitsPerByte', 'perplexity', 'sources']);
  expectLoss(report, golden.documents);
  expect(Object.keys(report.sources)).toEqual(Object.keys(golden.documents.sources));
  for (const [name, loss] of Object.entries(golden.documents.sources)) expectLoss(report.sources[name], loss);
});

test('scores a plain text as one document without template, in windows of the context', async () => {
  const { file, context } = golden.text;
  const report = await measure('--file', join(goldenFolder, file), '--context', String(context), '--max-tokens', '1');
  expectLoss(report, golden.text);
  expect(Object.keys(report.sources)).toEqual([file]);
});

test('refuses a bad line before it starts a browser, naming it', async () => {
  const path = join(folder, 'bad.jsonl');
  const [first] = (await readFile(join(goldenFolder, golden.documents.file), 'utf8')).split('\n');
  await writeFile(path, `${first}\n{"source": "a", "messages": [{"role": "robot", "content": "b"}]}\n`);
  const finished = await perplexity('--file', path, '--json');
  expect(finished.lastLine).toMatch(/^BAD_FILE: .*bad\.jsonl, line 2: message 0 needs a role/);
  expect(finished.status).toBe(1);
  expect(finished.stdout).toBe('');
});

/**
 * The BF16 checkpoint behind the default model's first version, and its validation documents; both lie beside the repository
 * on machines that train, and are not part of it.
 */
const checkpoint = join(repositoryRoot, '../shared/model');
const validation = join(repositoryRoot, '../shared/corpus/valid.jsonl.gz');
const isThere = existsSync(join(checkpoint, 'model.safetensors')) && existsSync(validation);

test('weights that are quantised while they are installed cost Q8_0 0.2 % and Q4_0 3 % at most in bits per byte', async () => {
  test.skip(!process.env.WEBMOE_FULL, 'three runs of minutes: npm run test:full');
  test.skip(!isThere, `not measured: ${checkpoint} and ${validation} are needed, and are not here`);
  test.setTimeout(1_800_000);
  const flags = ['--model', checkpoint, '--file', validation, '--max-tokens', '2000', '--store', 'memory'];
  const kept = await measure(...flags);
  expect(kept.tokens).toBeGreaterThanOrEqual(2000);
  for (const [type, share] of [
    ['q8_0', 0.002],
    ['q4_0', 0.03],
  ] as const) {
    const quantized = await measure(...flags, '--quantize', type);
    expect(quantized.tokens).toBe(kept.tokens);
    const cost = quantized.bitsPerByte / kept.bitsPerByte - 1;
    test.info().annotations.push({ type: 'cost', description: `${type}: ${cost}` });
    console.log(`${type}: ${kept.bitsPerByte} bits per byte as BF16, ${quantized.bitsPerByte} quantised (${cost})`);
    // Another model than the one that is kept: the flag did something.
    expect(quantized.nll).not.toBe(kept.nll);
    expect(cost, type).toBeLessThanOrEqual(share);
  }
});
