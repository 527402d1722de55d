import { readFile } from 'node:fs/promises';
import { InferenceSession, Tensor } from 'onnxruntime-web';
import { expect, test } from 'vitest';
import { getWeightFormat } from '../../../src/checkpoint/formats/index.ts';
import { getChecks, passes } from '../../../tools/perf/checks.ts';
import { measurePeers } from '../../../tools/perf/peer-table.ts';
import { convertToOnnx, unpackQ4, unpackQ8 } from '../../../tools/perf/peers/olmoe-onnx.ts';
import type { Peer, PeerName } from '../../../tools/perf/peers/peer-protocol.ts';
import type { Bench } from '../../../tools/perf/protocol.ts';

/** Random blocks with scales that f16 has. */
function createBlocks(blockBytes: number): Uint8Array {
  const file = new Uint8Array(4 * blockBytes);
  for (let i = 0, x = 1; i < file.length; i++) {
    x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0;
    file[i] = i % blockBytes === 1 ? 0x20 + (x >>> 29) : x >>> 24;
  }
  return file;
}

test("onnxruntime's blocks have the weights of the file's", () => {
  const q4 = createBlocks(18);
  const { weights, scales } = unpackQ4(q4);
  const fromQ4 = Array.from({ length: 128 }, (_, i) => {
    const byte = weights[i >> 1] as number;
    return (((i & 1) === 0 ? byte & 15 : byte >> 4) - 8) * (scales[i >> 5] as number);
  });
  expect(fromQ4).toEqual([...getWeightFormat('q4_0').dequantizeFile(q4, 128)]);
  const q8 = createBlocks(34);
  const bytes = unpackQ8(q8);
  const fromQ8 = Array.from(bytes.weights, (weight, i) => (weight - 128) * (bytes.scales[i >> 5] as number));
  expect(fromQ8).toEqual([...getWeightFormat('q8_0').dequantizeFile(q8, 128)]);
});

test('the ONNX graph of the embedded model says what the model says', async () => {
  const model = JSON.parse(await readFile('public/models/default.json', 'utf8'));
  const path = `public/${model.url}`;
  const { file, shape } = await convertToOnnx(path, await readFile(path));
  const [chat] = JSON.parse(await readFile('test/golden/webmoe-chat-22m.json', 'utf8')).chats;
  const ids: number[] = chat.promptTokenIds;
  const session = await InferenceSession.create(file);
  const caches = Array.from({ length: shape.layers }, (_, layer) => [
    `past.${layer}.key`,
    `past.${layer}.value`,
  ]).flat();
  const outputs = await session.run({
    input_ids: new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
    seqlens_k: new Tensor('int32', Int32Array.of(ids.length - 1), [1]),
    total_length: new Tensor('int32', Int32Array.of(ids.length), [1]),
    ...Object.fromEntries(
      caches.map((name) => [name, new Tensor('float32', new Float32Array(0), [1, shape.kvHeads, 0, shape.headDim])]),
    ),
  });
  await session.release();
  const logits = outputs.logits?.data as Float32Array;
  expect(logits).toHaveLength(shape.vocabSize);
  const top: [id: number, logit: number][] = chat.steps[0].top;
  // Its CPU provider rounds activations to 8 bits, so logits agree to a few tenths.
  for (const [id, logit] of top) expect(Math.abs((logits[id] as number) - logit), `token ${id}`).toBeLessThan(1);
  expect(logits.indexOf(Math.max(...logits))).toBe(top[0]?.[0]);
});

/** Every runtime decodes in 10 ms a token; webmoe in `ownMs`. */
async function measure(ownMs: number, failing: readonly PeerName[] = []) {
  const stats = { generatedTokens: 3, decodeMs: 2 * ownMs, prefillMs: 128 * ownMs };
  const bench = {
    getPrompt: async (_: string, promptTokens: number) => ({ ids: Array(promptTokens).fill(1), text: '' }),
    generate: async () => ({ loadMs: 0, answers: [{ stats }, { stats }] }),
  } as unknown as Bench;
  const said: string[] = [];
  const getPeer = (name: PeerName): Peer => ({
    async open() {
      if (failing.includes(name)) throw new Error('no QMoE here');
      return { threads: 2, shareOnGpu: 0, remark: name === 'wllama' ? 'no shader-f16' : null };
    },
    run: async ({ promptIds }) => ({
      promptTokens: promptIds.length,
      prefillMs: 10 * promptIds.length,
      msPerToken: 10,
      tokenIds: null,
    }),
    close: async () => {},
  });
  const setUp = { shape: { layers: 1, kvHeads: 1, headDim: 4, vocabSize: 4 }, modelUrl: '' };
  const rows = await measurePeers({
    bench,
    model: {} as never,
    store: 'memory',
    runs: 1,
    tokens: 3,
    prompts: [],
    shapes: [],
    peers: { setUp, get: getPeer },
    report: (message) => said.push(message),
  });
  return { rows, said };
}

test('peers are compared with webmoe in the same round, and held to 30 and 10 times', async () => {
  const { rows, said } = await measure(1 / 3);
  const find = (row: string, metric: string) => rows.find((r) => r.row === row && r.metric === metric)?.median;
  expect(find('webmoe 100%', 'decodeRatio')).toBe(1);
  expect(find('onnxruntime-web webgpu', 'decodeRatio')).toBeCloseTo(30);
  expect(find('wllama', 'promptTokensPerSecond')).toBeCloseTo(100);
  expect(getChecks(rows, ['peers']).map(passes)).toEqual([true, true]);
  expect(getChecks((await measure(0.34)).rows, ['peers']).map(passes)).toEqual([false, true]);
  expect(said).toContain('peers: wllama: no shader-f16');
});

test('a runtime that does not open is said, and its checks are missed', async () => {
  const { rows, said } = await measure(0.1, ['onnxruntime-web webgpu']);
  expect(said).toContain('peers: onnxruntime-web webgpu is not measured: no QMoE here');
  expect(new Set(rows.map(({ row }) => row))).not.toContain('onnxruntime-web webgpu');
  expect(getChecks(rows, ['peers']).map(passes)).toEqual([false, false]);
});
