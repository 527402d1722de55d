// Runs the tiny models of every architecture on llama.cpp and writes test/golden/llama-cpp-architectures.json: its
// log-probabilities at the kept positions of every model that it computes as transformers does, or the reason why it does
// not. Both are checked: a model with a reason is refused or differs widely, one without is within 1e-4 of the largest logit.
//
// Usage: node --import tsx run_llama_cpp_architectures.mjs FOLDER_WITH_NODE_LLAMA_CPP     (README.md: how to install it)

import { readdir, readFile, writeFile } from 'node:fs/promises';
import { buildGguf, readAnswers } from '../golden/drawn-weights.ts';
import {
  largestDifference,
  largestMagnitude,
  logSoftmax,
  readInstallFolder,
  withContext,
  withLlama,
  withModel,
} from './llama_cpp.mjs';

const GOLDEN = new URL('../golden/', import.meta.url);
const TOLERANCE = 1e-4;

/** Why llama.cpp is no oracle of a model. */
const OTHERWISE = {
  'deepseek2-0': 'without a latent of queries it loads models of 26 or 27 layers only',
  'deepseek2-1': 'it chooses groups of experts as V3 does, by their two best, V2 by their best',
  'ernie4_5_moe-1': 'it knows no dense layers between those of experts',
  'gpt_oss-0': "it rounds the bounds of YaRN's ramp to whole dimensions",
  'gpt_oss-1': "it rounds the bounds of YaRN's ramp to whole dimensions",
  'lfm2moe-1': 'it knows no biases of convolutions',
  'lfm2moe-2': 'it needs the bias that chooses experts',
  'phimoe-0': 'it routes by a softmax, transformers by sparsemixer',
  'phimoe-1': 'it needs the biases of attention',
  'phimoe-2': 'it needs a head of its own',
  'qwen2moe-0': 'it knows no dense layers',
  'qwen2moe-1': 'it knows no dense layers',
  'qwen3moe-1': "it makes the chosen experts' weights a sum of 1 always",
};

/** Kept rows of log-probabilities [rows, vocabulary], and their largest difference as a share of the row's largest logit. */
async function runModel(answers, evaluate) {
  const rows = [];
  let worst = 0;
  for (const { tokenIds, positions, logits: expected } of answers.prompts) {
    const logits = await evaluate(tokenIds);
    for (const [i, position] of positions.entries()) {
      rows.push(Float32Array.from(logSoftmax(logits[position])));
      const difference = largestDifference(rows.at(-1), logSoftmax(expected[i]));
      worst = Math.max(worst, difference / largestMagnitude(expected[i]));
    }
  }
  return { rows, worst };
}

async function readModels() {
  const folder = new URL('architectures/', GOLDEN);
  const files = (await readdir(folder)).filter((file) => file.endsWith('.json')).sort();
  return (await Promise.all(files.map(async (file) => JSON.parse(await readFile(new URL(file, folder)))))).flat();
}

async function compare(llama, folder, model) {
  const answers = readAnswers(model);
  // Room behind the longest prompt: a full context would be shifted.
  const contextSize = 8 + Math.max(...answers.prompts.map(({ tokenIds }) => tokenIds.length));
  const run = (loaded) => withContext(loaded, contextSize, (evaluate) => runModel(answers, evaluate));
  const result = await withModel(llama, folder, model.name, await buildGguf(model), run).catch((error) => ({ error }));
  const agrees = !result.error && result.worst <= TOLERANCE;
  const reason = OTHERWISE[model.name];
  console.error(model.name, result.error ? 'refused' : result.worst.toExponential(1), reason ?? '');
  if (agrees !== (reason === undefined)) throw new Error(`${model.name}: ${reason ?? 'no reason'} is not so`);
  return reason ? { reason } : { logprobs: toBase64(result.rows) };
}

function toBase64(rows) {
  return Buffer.concat(rows.map(({ buffer }) => Buffer.from(buffer))).toString('base64');
}

await withLlama(readInstallFolder(), async (llama, folder) => {
  const models = {};
  for (const model of await readModels()) models[model.name] = await compare(llama, folder, model);
  const lines = Object.entries(models).map(([name, entry]) => `${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  const release = JSON.stringify(llama.llamaCppRelease.release);
  const text = `{"llamaCpp":${release},"models":{\n${lines.join(',\n')}\n}}\n`;
  await writeFile(new URL('llama-cpp-architectures.json', GOLDEN), text);
});
