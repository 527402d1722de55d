// Runs the golden OLMoE models, and those of every weight type, on llama.cpp and writes test/golden/llama-cpp.json: top-1
// and its margin at every prompt position, and how far its log-probabilities are from transformers' where both are known.
//
// Usage: node --import tsx run_llama_cpp.mjs FOLDER_WITH_NODE_LLAMA_CPP     (README.md has how to install it)

import { readFile, writeFile } from 'node:fs/promises';
import { gunzipSync } from 'node:zlib';
import { buildGguf, readAnswers } from '../golden/drawn-weights.ts';
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
/** Longer than any prompt. */
const CONTEXT = 128;

/** llama.cpp's OLMoE needs as many key heads as query heads and an own head; it ignores clipping and renormalisation. */
function isSupported({ tiedEmbeddings, config: { attention, moe } }) {
  return (
    !tiedEmbeddings && attention.heads === attention.kvHeads && attention.clipQkv === null && !moe.router.normalize
  );
}

/** A catalogue's model and transformers' answers, as `readAnswers` gives them. */
async function readModel({ name, file, logitsFile, config: { vocabSize }, prompts }) {
  const bytes = await readFile(new URL(logitsFile, GOLDEN));
  const rows = prompts.reduce((sum, { positions }) => sum + positions.length, 0);
  // Behind the prompts' rows are those of decoding.
  const logits = bytes.subarray(0, rows * vocabSize * 4).toString('base64');
  return {
    gguf: gunzipSync(await readFile(new URL(file, GOLDEN))),
    answers: readAnswers({ name, vocabSize, prompts, decodeSteps: 0, logits }),
  };
}

async function runPrompts({ name, prompts }, evaluate) {
  let maxLogprobDifference = 0;
  const kept = [];
  for (const { tokenIds, positions, logits: expected } of prompts) {
    const logits = await evaluate(tokenIds);
    for (const [i, position] of positions.entries()) {
      const reference = logSoftmax(Float64Array.from(expected[i]));
      const difference = largestDifference(logSoftmax(logits[position]), reference);
      maxLogprobDifference = Math.max(maxLogprobDifference, difference);
    }
    const best = logits.map(top1);
    kept.push({
      top1: best.map(({ token }) => token),
      margin: best.map(({ margin }) => Number(margin.toFixed(5))),
    });
  }
  console.error(name, 'max |Δlogprob|', maxLogprobDifference);
  return { name, maxLogprobDifference, prompts: kept };
}

await withLlama(readInstallFolder(), async (llama, folder) => {
  const runModel = ({ gguf, answers }) =>
    withModel(llama, folder, answers.name, gguf, (loaded) =>
      withContext(loaded, CONTEXT, (evaluate) => runPrompts(answers, evaluate)),
    );
  const result = { llamaCpp: llama.llamaCppRelease.release, models: [], weightTypes: [] };
  const catalogue = JSON.parse(await readFile(new URL('catalogue.json', GOLDEN), 'utf8'));
  for (const model of catalogue.filter(isSupported)) result.models.push(await runModel(await readModel(model)));
  for (const model of JSON.parse(await readFile(new URL('weight-types.json', GOLDEN), 'utf8'))) {
    result.weightTypes.push(await runModel({ gguf: await buildGguf(model), answers: readAnswers(model) }));
  }
  await writeFile(new URL('llama-cpp.json', GOLDEN), `${JSON.stringify(result)}\n`);
});
