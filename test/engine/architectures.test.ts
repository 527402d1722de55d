/**
 * Every architecture against transformers, and against llama.cpp where it computes the same, on tiny random models, from
 * GGUF files and from folders of safetensors, and the research line against the papers' formulas; at the smallest budget and
 * with everything resident: the same bits at both, and within the tolerance of the oracles.
 * docs/numerics.md has the tolerances.
 */
import { afterAll, describe, it } from 'vitest';
import { createMemorySource } from '../../src/store/memory-source';
import { architectureNames, loadArchitecture } from '../golden/architectures';
import { loadResearch, researchNames } from '../golden/research';
import { loadSafetensors, safetensorsNames } from '../golden/safetensors';
import { openFolder } from '../unit/checkpoint/hf-folder';
import { answer, checkArchitecture, getWorst, getWorstLogprob, isFull, openModel, WHOLE } from './architecture-answers';
import { checkReached, writeReached } from './reached';

afterAll(writeReached);

describe.each(architectureNames)('%s', async (name) => {
  const models = await loadArchitecture(name);
  it.each((isFull ? models : models.slice(0, 1)).map((golden) => [golden.name, golden] as const))(
    '%s gives the logits of its oracles, and the same bits at the smallest budget and with everything resident',
    async (_, golden) => {
      const resident = await checkArchitecture(createMemorySource(golden.gguf, golden.name), golden);
      checkReached(golden.name, 'transformers', getWorst(golden, resident));
      if (golden.llamaCpp) checkReached(golden.name, 'llamaCpp', getWorstLogprob(golden.llamaCpp, resident));
    },
  );
});

describe.each(researchNames)('%s', async (name) => {
  const models = await loadResearch(name);
  it.each((isFull ? models : models.slice(0, 1)).map((golden) => [golden.name, golden] as const))(
    '%s gives the logits of its paper, and the same bits at the smallest budget and with everything resident',
    async (_, golden) => {
      const resident = await checkArchitecture(openFolder(golden.folder, golden.name), golden);
      checkReached(golden.name, 'paper', getWorst(golden, resident));
    },
  );
});

describe.each(safetensorsNames)('%s from safetensors', async (name) => {
  const models = await loadSafetensors(name);
  it.each((isFull ? models : models.slice(0, 1)).map((golden) => [golden.name, golden] as const))(
    '%s gives the logits of transformers',
    async (_, golden) => {
      const prompts = isFull ? golden.prompts : golden.prompts.slice(0, 2);
      const opened = await openModel(openFolder(golden.folder, golden.name), () => 100);
      const decodeSteps = isFull ? golden.decodeSteps : 0;
      const asked = { ...golden, prompts, decodeSteps };
      checkReached(golden.name, 'safetensors', getWorst(asked, await answer(opened, asked, WHOLE)));
    },
  );
});
