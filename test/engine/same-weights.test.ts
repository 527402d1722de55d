/**
 * The same weights as a folder of safetensors files, kept as they are, and as a GGUF file: the same answers, bit for bit.
 * In npm test a tiny model; in test:full more, and the default model, its weights widened to 16 bits.
 */
import { afterEach, expect, it } from 'vitest';
import { getWeightFormat } from '../../src/checkpoint/formats';
import { encodeF16 } from '../../src/checkpoint/formats/quantize';
import { readGgufFile } from '../../src/checkpoint/gguf';
import type { GenerateRequest } from '../../src/engine/engine';
import { readGoldenModel } from '../golden';
import { ByteWriter, memorySource } from '../unit/checkpoint/gguf-writer';
import { writeHfFolder } from '../unit/checkpoint/hf-folder';
import { generate, openSession, type Session, type TestModel, toBits } from './engine-session';

const isFull = Boolean(import.meta.env.WEBMOE_FULL);

let session: Session | undefined;
afterEach(async () => {
  await session?.engine.unload();
  session = undefined;
});

/** The bits of two answers: to a prompt that runs as decode does, and to one in tiles. */
async function answer(model: TestModel, percent: number) {
  session = await openSession(model, { expertBudget: { percent } });
  const { engine, loaded } = session;
  const answers: { tokenIds: readonly number[]; bits: string[] }[] = [];
  let faultingLayers = 0;
  for (const promptTokens of [7, 37]) {
    const tokenIds = Array.from({ length: promptTokens }, (_, i) => 3 + ((i * 79) % 200));
    const request: GenerateRequest = { tokenIds, maxTokens: 12, ignoreEos: true, topLogprobs: 5 };
    const { result } = await generate(engine, request);
    answers.push({ tokenIds: result.tokenIds, bits: toBits(result.logprobs) });
    faultingLayers += result.stats.faultingLayers;
  }
  await engine.unload();
  return { answers, faultingLayers, loaded };
}

async function expectSame(gguf: Uint8Array<ArrayBuffer>, shards: number): Promise<void> {
  const folder = (await writeHfFolder(gguf, shards)) as Map<string, Uint8Array<ArrayBuffer>>;
  const fromGguf = await answer(gguf, 50);
  const fromFolder = await answer(folder, 50);
  expect(fromFolder.loaded.quantization).toBeNull();
  expect(fromFolder.loaded.modelId).not.toBe(fromGguf.loaded.modelId);
  expect(Math.min(fromGguf.faultingLayers, fromFolder.faultingLayers)).toBeGreaterThan(0);
  expect(fromFolder.answers).toEqual(fromGguf.answers);
}

it.each(
  [['e16k4-f16', 2] as const, ['e16k4-bf16', 1] as const, ['e16k4-f32', 1] as const].slice(0, isFull ? undefined : 1),
)('%s gives the same tokens and bits from %i safetensors files as from a GGUF file', async (name, shards) => {
  await expectSame(await readGoldenModel(name), shards);
});

it.runIf(isFull).each(['f16', 'bf16'] as const)(
  'the default model in %s gives the same tokens and bits from safetensors files as from a GGUF file',
  async (type) => {
    const { url } = (await (await fetch('/models/default.json')).json()) as { readonly url: string };
    const gguf = new Uint8Array(await (await fetch(`/${url}`)).arrayBuffer());
    await expectSame(await widen(gguf, type), 2);
  },
);

/** A GGUF file with every quantised matrix of another in 16 bits a weight. */
async function widen(gguf: Uint8Array<ArrayBuffer>, type: 'f16' | 'bf16'): Promise<Uint8Array<ArrayBuffer>> {
  const { ggmlType } = getWeightFormat(type);
  const tensors = [...(await readGgufFile(memorySource(gguf))).tensors.values()].map((tensor) => {
    const data = gguf.slice(tensor.offsetBytes, tensor.offsetBytes + tensor.sizeBytes);
    const format = getWeightFormat(tensor.type);
    if (tensor.type === 'f32') return { ...tensor, data, ggmlType: format.ggmlType };
    const values = format.dequantizeFile(
      data,
      tensor.shape.reduce((product, length) => product * length, 1),
    );
    const bits = new Uint32Array(values.buffer);
    const encode = (i: number) => (type === 'f16' ? encodeF16(values[i] as number) : (bits[i] as number) >>> 16);
    return { ...tensor, data: new Uint8Array(Uint16Array.from(values, (_, i) => encode(i)).buffer), ggmlType };
  });
  const [first] = tensors;
  const start = new ByteWriter().string(first?.name ?? '').finish();
  const metadataEnd = gguf.findIndex((_, at) => start.every((byte, i) => gguf[at + i] === byte));
  const out = new ByteWriter().bytes(gguf.slice(0, metadataEnd));
  let offset = 0;
  for (const { name, shape, data, ggmlType: ofTensor } of tensors) {
    out.string(name).number('u32', shape.length);
    for (const length of [...shape].reverse()) out.number('u64', length);
    out.number('u32', ofTensor).number('u64', offset);
    offset += Math.ceil(data.byteLength / 32) * 32;
  }
  out.pad(32);
  for (const { data } of tensors) out.bytes(data).pad(32);
  return out.finish();
}
