/** Tensors that take long to quantise or to pack: the event loop has its turns meanwhile, and an abort ends them. */
import { expect, it } from 'vitest';
import type { TensorEntry } from '../../../src/checkpoint/checkpoint';
import { measureError, quantize } from '../../../src/checkpoint/formats/quantize';
import { readGgufFile } from '../../../src/checkpoint/gguf';
import { buildInstallPlan } from '../../../src/checkpoint/install-plan';
import { Quantizer } from '../../../src/checkpoint/quantized-tensor';
import { STRETCH_WEIGHTS } from '../../../src/checkpoint/turns';
import { memorySource, tinyOlmoe, writeTinyOlmoe } from './gguf-writer';

/** Two stretches and a bit. */
const WEIGHTS = 2 * STRETCH_WEIGHTS + 96;
const values = Float32Array.from({ length: WEIGHTS }, (_, i) => ((i * 37) % 1009) / 1009 - 0.4);
const embedding: TensorEntry = {
  name: 'token_embd.weight',
  type: 'f32',
  shape: [WEIGHTS / 32, 32],
  getSlab: () => ({
    ranges: [{ offsetBytes: 0, lengthBytes: 4 * WEIGHTS, purpose: 'the embedding' }],
    assemble: null,
  }),
};

function startQuantizing(quantizer: Quantizer, signal?: AbortSignal) {
  const { assemble } = quantizer.wrap('embedding', embedding).getSlab(0, 1);
  return assemble?.([new Uint8Array(values.buffer)], signal);
}

it('quantises a tensor of several stretches with turns in between, to the same blocks and the same error', async () => {
  const quantizer = new Quantizer('q4_0');
  let ticks = 0;
  let isDone = false;
  const tick = () => {
    if (isDone) return;
    ticks++;
    setTimeout(tick);
  };
  setTimeout(tick);
  const blocks = await startQuantizing(quantizer);
  isDone = true;
  expect(ticks).toBeGreaterThan(0);
  const whole = quantize('q8_0', values);
  expect(Buffer.compare(blocks ?? new Uint8Array(), whole)).toBe(0);
  const { errorSquares, weightSquares } = measureError('q8_0', values, whole);
  const { type, relativeRms } = quantizer.getReport().embedding ?? {};
  expect(type).toBe('q8_0');
  expect(relativeRms).toBeCloseTo(Math.sqrt(errorSquares / weightSquares), 9);
});

it('stops quantising when it is aborted, and reports nothing of what was not done', async () => {
  const quantizer = new Quantizer('q4_0');
  const controller = new AbortController();
  const quantizing = startQuantizing(quantizer, controller.signal);
  controller.abort();
  await expect(quantizing).rejects.toMatchObject({ code: 'ABORTED' });
  expect(quantizer.getReport()).toEqual({});
});

it('packs a tensor of several stretches with turns in between, and ends when it is aborted', async () => {
  const vocabSize = (2.5 * STRETCH_WEIGHTS) / tinyOlmoe.hiddenSize;
  const file = writeTinyOlmoe(() => {}, { ...tinyOlmoe, vocabSize });
  const record = buildInstallPlan(await readGgufFile(memorySource(file))).records.find(
    ({ key }) => key === 'tensor/embedding',
  );
  const [range] = record?.sourceRanges ?? [];
  if (!record || !range) throw new Error('the plan has an embedding');
  const bytes = file.subarray(range.offsetBytes, range.offsetBytes + range.lengthBytes);
  let turns = 0;
  let isDone = false;
  const count = () => {
    if (isDone) return;
    turns++;
    setImmediate(count);
  };
  setImmediate(count);
  const packed = await record.pack([bytes]);
  isDone = true;
  expect(turns).toBeGreaterThan(0);
  // F32 is kept as it is.
  expect(Buffer.compare(packed, bytes)).toBe(0);
  const controller = new AbortController();
  const packing = record.pack([bytes], controller.signal);
  controller.abort();
  await expect(packing).rejects.toMatchObject({ code: 'ABORTED' });
});
