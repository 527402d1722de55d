// Runs the golden models on llama.cpp and writes test/golden/llama-cpp.json: top-1 and its margin at every prompt
// position, and how far its log-probabilities are from transformers' where both are known.
//
// Usage: node --import tsx run_llama_cpp.mjs FOLDER_WITH_NODE_LLAMA_CPP     (README.md has how to install it)

import { readFile, writeFile } from 'node:fs/promises';
import { gunzipSync } from 'node:zlib';
import {
  largestDifference,
  logSoftmax,
  readInstallFolder,
  top1,
  withContext,
  withLlama,
  withModel,
} from './llama_cpp.mjs';

const GOLDEN = new URL('../golden/', import.meta.url);

/** llama.cpp's OLMoE needs as many key heads as query heads and an own head; it ignores clipping and renormalisation. */
function isSupported({ tiedEmbeddings, config: { attention, moe } }) {
  return (
    !tiedEmbeddings && attention.heads === attention.kvHeads && attention.clipQkv === null && !moe.router.normalize
  );
}

async function runModel(model, evaluate) {
  const bytes = await readFile(new URL(model.logitsFile, GOLDEN));
  const reference = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const { vocabSize } = model.config;
  let row = 0;
  let maxLogprobDifference = 0;
  const prompts = [];
  for (const { tokenIds, positions } of model.prompts) {
    const logits = await evaluate(tokenIds);
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
  console.error(model.name, 'max |Δlogprob|', maxLogprobDifference);
  return { name: model.name, maxLogprobDifference, prompts };
}

await withLlama(readInstallFolder(), async (llama, folder) => {
  const catalogue = JSON.parse(await readFile(new URL('catalogue.json', GOLDEN), 'utf8'));
  const models = [];
  for (const model of catalogue.filter(isSupported)) {
    const file = gunzipSync(await readFile(new URL(model.file, GOLDEN)));
    const run = (loaded) => withContext(loaded, model.config.contextLength, (evaluate) => runModel(model, evaluate));
    models.push(await withModel(llama, folder, model.name, file, run));
  }
  const result = { llamaCpp: llama.llamaCppRelease.release, models };
  await writeFile(new URL('llama-cpp.json', GOLDEN), `${JSON.stringify(result)}\n`);
});
