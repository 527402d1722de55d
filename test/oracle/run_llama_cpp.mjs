// Runs the golden models on llama.cpp (node-llama-cpp, CPU) and writes test/golden/llama-cpp.json: top-1 and its margin
// at every prompt position, and how far its log-probabilities are from transformers' where both are known.
// Never a dependency of the package: see README.md for how to install node-llama-cpp outside the repository.
//
// Usage: node run_llama_cpp.mjs FOLDER_WITH_NODE_LLAMA_CPP

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { gunzipSync } from 'node:zlib';

const GOLDEN = new URL('../golden/', import.meta.url);

/** llama.cpp's OLMoE needs as many key heads as query heads and an own head; it ignores clipping and renormalisation. */
function isSupported({ tiedEmbeddings, config: { attention, moe } }) {
  return (
    !tiedEmbeddings && attention.heads === attention.kvHeads && attention.clipQkv === null && !moe.router.normalize
  );
}

async function importLlama(folder) {
  return import(pathToFileURL(path.resolve(folder, 'node_modules/node-llama-cpp/dist/index.js')));
}

/** Logits [positions][vocabulary] of one prompt. */
async function evaluate(sequence, tokenIds) {
  await sequence.clearHistory();
  const results = await sequence.controlledEvaluate(
    tokenIds.map((token) => [token, { generateNext: { logits: true, options: { temperature: 0 } } }]),
  );
  return results.map(({ next }) => {
    const logits = new Float64Array(next.logits.size);
    for (const [token, logit] of next.logits) logits[token] = logit;
    return logits;
  });
}

function logSoftmax(logits) {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0);
  return Float64Array.from(logits, (logit) => logit - largest - Math.log(total));
}

function largestDifference(a, b) {
  return a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i])), 0);
}

/** The largest logit's token, and by how much it leads. */
function top1(logits) {
  const token = logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
  const second = logits.reduce((best, logit, i) => (i === token ? best : Math.max(best, logit)), -Infinity);
  return { token, margin: logits[token] - second };
}

async function readModel(model, folder) {
  const file = path.join(folder, `${model.name}.gguf`);
  await writeFile(file, gunzipSync(await readFile(new URL(model.file, GOLDEN))));
  const bytes = await readFile(new URL(model.logitsFile, GOLDEN));
  return { file, reference: new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)) };
}

async function runModel(llama, model, folder) {
  const { file, reference } = await readModel(model, folder);
  const loaded = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
  const context = await loaded.createContext({
    contextSize: model.config.contextLength,
    flashAttention: false,
    experimentalKvCacheKeyType: 'F32', // the default F16 alone moves log-probabilities by 5e-3
    experimentalKvCacheValueType: 'F32',
  });
  const sequence = context.getSequence();
  const { vocabSize } = model.config;
  let row = 0;
  let maxLogprobDifference = 0;
  const prompts = [];
  for (const { tokenIds, positions } of model.prompts) {
    const logits = await evaluate(sequence, tokenIds);
    for (const position of positions) {
      const expected = reference.subarray(row * vocabSize, ++row * vocabSize);
      const difference = largestDifference(logSoftmax(logits[position]), logSoftmax(Float64Array.from(expected)));
      maxLogprobDifference = Math.max(maxLogprobDifference, difference);
    }
    const best = logits.map(top1);
    prompts.push({
      top1: best.map(({ token }) => token),
      margin: best.map(({ margin }) => Number(margin.toFixed(5))),
    });
  }
  await context.dispose();
  await loaded.dispose();
  return { name: model.name, maxLogprobDifference, prompts };
}

async function main(installFolder) {
  const { getLlama } = await importLlama(installFolder);
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error' });
  const catalogue = JSON.parse(await readFile(new URL('catalogue.json', GOLDEN), 'utf8'));
  const folder = await mkdtemp(path.join(tmpdir(), 'webmoe-llama-cpp-'));
  try {
    const models = [];
    for (const model of catalogue.filter(isSupported)) {
      models.push(await runModel(llama, model, folder));
      console.error(model.name, 'max |Δlogprob|', models.at(-1).maxLogprobDifference);
    }
    const result = { llamaCpp: llama.llamaCppRelease.release, models };
    await writeFile(new URL('llama-cpp.json', GOLDEN), `${JSON.stringify(result)}\n`);
  } finally {
    await rm(folder, { recursive: true });
    await llama.dispose();
  }
}

if (process.argv.length !== 3) {
  console.error('Usage: node run_llama_cpp.mjs FOLDER_WITH_NODE_LLAMA_CPP');
  process.exit(2);
}
await main(process.argv[2]);
