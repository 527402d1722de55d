import { readFile } from 'node:fs/promises';
import { beforeAll, expect, test } from 'vitest';
import { openPathSession } from '../../../src/worker/path-session';

const folder = new URL('../../golden/', import.meta.url);
const shape = { layers: 2, experts: 4, expertsPerToken: 2 };
let network: Uint8Array;
/** [tokens][layers * experts], by PyTorch. */
let golden: { readonly tokenIds: readonly number[]; readonly scores: readonly (readonly number[])[] };

beforeAll(async () => {
  network = new Uint8Array(await readFile(new URL('routing-path.onnx', folder)));
  golden = JSON.parse(await readFile(new URL('routing-path.json', folder), 'utf8'));
});

function expectScores(scores: Float32Array, token: number): void {
  const expected = golden.scores[token] ?? [];
  expect(scores).toHaveLength(expected.length);
  // The embedding has 8 bits, the other matrices 16.
  for (const [page, score] of scores.entries()) expect(Math.abs(score - (expected[page] as number))).toBeLessThan(0.02);
}

test('answers as the network in PyTorch does, token by token and in chunks', async () => {
  const session = await openPathSession(network, shape);
  for (const [position, id] of golden.tokenIds.entries()) expectScores(await session.run(position, [id]), position);
  expectScores(await session.run(0, golden.tokenIds.slice(0, 5)), 4);
  expectScores(await session.run(5, golden.tokenIds.slice(5)), golden.tokenIds.length - 1);
  await session.close();
});

test('tokens that were taken back leave no trace', async () => {
  const session = await openPathSession(network, shape);
  await session.run(0, golden.tokenIds.slice(0, 4));
  await session.run(4, [1, 2, 3]);
  expectScores(await session.run(4, [golden.tokenIds[4] as number]), 4);
  await session.close();
});

test.each([
  ['that is none', async () => Uint8Array.of(1, 2, 3), shape, /no network that onnxruntime opens/],
  ['of another model', async () => network, { ...shape, experts: 8 }, /names 8 experts, this model has 2 layers of 8/],
] as const)('a network %s is refused', async (_name, get, of, message) => {
  await expect(openPathSession(await get(), of)).rejects.toMatchObject({
    code: 'BAD_FILE',
    message: expect.stringMatching(message),
  });
});
