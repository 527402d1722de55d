import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { LoadedModel } from '../../../src/engine/engine';
import { readTrace } from '../../../src/routing/trace';
import { writeTrace } from '../../../tools/generate/trace-file.ts';

const model: LoadedModel = {
  modelId: 'id',
  name: 'tiny',
  architecture: 'olmoe',
  contextLength: 8,
  layers: 3,
  moeLayers: 2,
  moeLayerIndices: [1, 2],
  experts: 4,
  expertsPerToken: 2,
  slotsPerLayer: 4,
  plannedGpuBytes: 1,
  hasChatTemplate: false,
  tools: { family: 'json', inTemplate: false },
  adapter: 'none',
  variants: { kernels: 'none' },
  installed: true,
  quantization: null,
  isLocal: true,
};
const routes = [
  [3, 0],
  [1, 2],
];
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webmoe-trace-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

test('the file is what the trace reader reads, and nothing else is left', async () => {
  const path = join(folder, 't.jsonl');
  await writeFile(path, 'older');
  await writeTrace(path, model, [
    { token: 7, phase: 'prefill', routes },
    { token: 5, phase: 'decode', routes },
  ]);
  const lines: unknown[] = [];
  for await (const line of readTrace([await readFile(path)], path)) lines.push(line);
  expect(lines).toEqual([
    { model: 'tiny', layers: 2, layerIndices: [1, 2], experts: 4, expertsPerToken: 2 },
    { sequence: 0, token: 7, phase: 'prefill', routes },
    { sequence: 0, token: 5, phase: 'decode', routes },
  ]);
  expect(await readdir(folder)).toEqual(['t.jsonl']);
});
