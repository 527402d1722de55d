// llama.cpp by node-llama-cpp, on the CPU, in float32 where it allows: what the scripts beside this one share.
// Never a dependency of the package: README.md has how to install node-llama-cpp outside the repository.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

/** Runs `use(llama, folder)` with an instance and a folder for model files, and removes both. */
export async function withLlama(installFolder, use) {
  const entry = path.resolve(installFolder, 'node_modules/node-llama-cpp/dist/index.js');
  const { getLlama } = await import(pathToFileURL(entry).href);
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error' });
  const folder = await mkdtemp(path.join(tmpdir(), 'webmoe-llama-cpp-'));
  try {
    return await use(llama, folder);
  } finally {
    await rm(folder, { recursive: true });
    await llama.dispose();
  }
}

/** Runs `use(loaded)` with the model of a GGUF file's bytes. `options`: node-llama-cpp's. */
export async function withModel(llama, folder, name, bytes, use, options = {}) {
  const modelPath = path.join(folder, `${name}.gguf`);
  await writeFile(modelPath, bytes);
  const loaded = await llama.loadModel({ modelPath, gpuLayers: 0, ...options });
  try {
    return await use(loaded);
  } finally {
    await loaded.dispose();
    await rm(modelPath);
  }
}

/** Runs `use(evaluate)`; evaluate(tokenIds) gives logits [positions][vocabulary] of a prompt, up to a constant of each row. */
export async function withContext(loaded, contextSize, use) {
  const context = await loaded.createContext({
    contextSize,
    flashAttention: false,
    experimentalKvCacheKeyType: 'F32', // the default F16 alone moves log-probabilities by 5e-3
    experimentalKvCacheValueType: 'F32',
  });
  const sequence = context.getSequence();
  try {
    return await use((tokenIds) => evaluate(sequence, tokenIds));
  } finally {
    await context.dispose();
  }
}

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

/** Natural logarithms of the probabilities. */
export function logSoftmax(logits) {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0);
  return Float64Array.from(logits, (logit) => logit - largest - Math.log(total));
}

export function largestDifference(a, b) {
  return a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i])), 0);
}

export function largestMagnitude(values) {
  return values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
}

/** The largest logit's token, and by how much it leads. */
export function top1(logits) {
  const token = logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
  const second = logits.reduce((best, logit, i) => (i === token ? best : Math.max(best, logit)), -Infinity);
  return { token, margin: logits[token] - second };
}

/** The only argument: the folder that node-llama-cpp is installed in. */
export function readInstallFolder() {
  if (process.argv.length === 3) return process.argv[2];
  console.error(`Usage: node --import tsx ${path.basename(process.argv[1])} FOLDER_WITH_NODE_LLAMA_CPP`);
  process.exit(2);
}
