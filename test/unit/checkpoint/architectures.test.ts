/** The support table; docs/architectures.md is what this test makes of the registry and of what was measured (`vitest -u`). */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { architectures } from '../../../src/checkpoint/architectures';
import { hfModelTypes } from '../../../src/checkpoint/hf-models';

interface Support {
  /** Models that people know it by. */
  readonly models: string;
  /** File of golden models; of OLMoE they are the catalogue. */
  readonly golden: string | null;
}

const SUPPORT: Readonly<Record<string, Support>> = {
  olmoe: { models: 'OLMoE', golden: null },
  llama: { models: 'Mixtral', golden: 'mixtral' },
  qwen2moe: { models: 'Qwen1.5-MoE, Qwen2-MoE', golden: 'qwen2moe' },
  qwen3moe: { models: 'Qwen3-MoE', golden: 'qwen3moe' },
  granitemoe: { models: 'Granite 3 MoE, also with a shared expert', golden: 'granitemoe' },
  phimoe: { models: 'Phi-3.5-MoE', golden: 'phimoe' },
  'gpt-oss': { models: 'gpt-oss', golden: 'gpt_oss' },
  glm4moe: { models: 'GLM-4.5, GLM-4.5-Air', golden: 'glm4moe' },
  deepseek2: { models: 'DeepSeek-V2, V2-Lite, V3', golden: 'deepseek2' },
  lfm2moe: { models: 'LFM2-8B-A1B', golden: 'lfm2moe' },
  'hunyuan-moe': { models: 'Hunyuan-A13B', golden: 'hunyuan_moe' },
  'ernie4_5-moe': { models: 'ERNIE-4.5-MoE', golden: 'ernie4_5_moe' },
};

const folder = new URL('../../golden/architectures/', import.meta.url);
const reached = JSON.parse(readFileSync(new URL('../reached.json', folder), 'utf8')) as Record<string, number>;

it('every architecture of the registry is in the table, and every golden one is measured', () => {
  expect(architectures.map(({ name }) => name)).toEqual(Object.keys(SUPPORT));
  const files = readdirSync(folder).filter((file) => file.endsWith('.json'));
  const goldens = Object.values(SUPPORT).flatMap(({ golden }) => golden ?? []);
  expect(files.map((file) => file.slice(0, -5)).sort()).toEqual([...goldens].sort());
  const models = files.flatMap((file) => JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as { name: string }[]);
  expect(models.map(({ name }) => name).sort()).toEqual(Object.keys(reached).sort());
  for (const difference of Object.values(reached)) expect(difference).toBeLessThanOrEqual(1e-3);
});

it('docs/architectures.md is made of them', async () => {
  const rows = architectures.map(({ name }) => {
    const { models, golden } = SUPPORT[name] as Support;
    const own = Object.entries(reached).filter(([model]) => golden !== null && model.startsWith(`${golden}-`));
    const worst = Math.max(...own.map(([, difference]) => difference));
    const oracle = golden === null ? 'transformers; llama.cpp' : 'transformers';
    const cell = golden === null ? '[numerics](numerics.md)' : `${worst.toExponential(1)} over ${own.length} models`;
    const types = hfModelTypes.filter(({ architecture }) => architecture === name).map(({ modelType }) => modelType);
    const sources = ['GGUF', ...types.map((type) => `safetensors (\`${type}\`)`)].join(', ');
    return `| ${models} | \`${name}\` | ${sources} | ${oracle} | ${cell} |`;
  });
  const text = `# Architectures

Made by test/unit/checkpoint/architectures.test.ts from the registry (src/checkpoint/architectures.ts) and from what test/engine/architectures.test.ts measured in full: the largest difference of any logit from transformers, as a share of the largest logit, on tiny random F32 models with prompts of 1, 7 and 130 tokens and 8 decoded ones. Each also gives the same bits at its smallest budget and with everything resident. Folders of safetensors are other random models, saved and loaded by transformers, and have the same tolerance. No published checkpoint of these sizes has been run.

| models | GGUF name | sources | oracle | largest difference |
|---|---|---|---|---|
${rows.join('\n')}

DeepSeek's latent attention is computed absorbed: a position's cache is its latent and one turned key, 576 values in V2-Lite; files that keep keys and values of the heads in one tensor have the keys' part transposed while they are installed, as F32 where it was quantised. LFM2's convolutions keep their state by position, in a ring as long as a pass and the taps before it, so that a resumed or refused pass finds it as it was. Phi-3.5-MoE keeps the short rotary factors at every length, as transformers does. gpt-oss's expert matrices may be MXFP4, in both sources; the models here are F32. A file whose keys, or a config.json whose fields, ask for something else is refused with the key and what is accepted.
`;
  await expect(text).toMatchFileSnapshot('../../../docs/architectures.md');
});
