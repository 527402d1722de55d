import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { parseStateFile } from '../../../src/routing/state-file';
import { formatTraceHeader, formatTraceToken } from '../../../src/routing/trace';
import { run } from '../../../tools/teach/cli.ts';
import { createRandom } from '../random.ts';
import { makeTokens } from '../replay/traces.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webmoe-teach-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function writeTrace(): Promise<string> {
  const size = { layers: 2, experts: 6, expertsPerToken: 2, tokens: 200 };
  const header = { model: 'random', layerIndices: [0, 1], ...size };
  const lines = [...makeTokens(createRandom(1), size)].map(formatTraceToken);
  const path = join(folder, 'trace.jsonl');
  await writeFile(path, formatTraceHeader(header) + lines.join(''));
  return path;
}

test('what is learnt from a trace is a file that the engine reads, and nothing else is left', async () => {
  const said = vi.spyOn(console, 'error').mockImplementation(() => {});
  const [trace, out] = [await writeTrace(), join(folder, 'taught.gz')];
  expect(await run(['--trace', trace, '--out', out])).toBe(0);
  expect(said.mock.calls.join()).toMatch(/taught\.gz: \d+ bytes, learnt from 200 tokens/);
  said.mockRestore();
  const state = parseStateFile(gunzipSync(await readFile(out)), 'taught.gz');
  expect(state).toMatchObject({ layers: 2, experts: 6 });
  expect((await readdir(folder)).sort()).toEqual(['taught.gz', 'trace.jsonl']);
});

test('a folder that is not there is refused before a trace is read', async () => {
  const out = join(folder, 'none', 'x');
  const refused = {
    code: 'BAD_ARGUMENT',
    message: expect.stringMatching(/^--out is ".*x": its folder .* does not exist/),
  };
  await expect(run(['--trace', 'no-such.jsonl', '--out', out])).rejects.toMatchObject(refused);
});
