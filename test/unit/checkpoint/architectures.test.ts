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
  /** Of the research line: folders alone, held against the paper's formulas. */
  readonly isResearch?: boolean;
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
  adamoe: { models: 'AdaMoE on Mixtral (arXiv 2406.13233)', golden: 'adamoe', isResearch: true },
  'dynamic-moe': { models: 'Dynamic top-p routing (arXiv 2403.07652)', golden: 'dynamic_moe', isResearch: true },
  rmoe: { models: 'RMoE (arXiv 2408.06793)', golden: 'rmoe', isResearch: true },
  openmoe: { models: 'OpenMoE (arXiv 2402.01739)', golden: 'openmoe', isResearch: true },
  rexmoe: { models: 'ReXMoE (arXiv 2510.17483)', golden: 'rexmoe', isResearch: true },
  coe: { models: 'Chain-of-Experts on DeepSeek-V2 (arXiv 2506.18945)', golden: 'coe', isResearch: true },
  blockffn: { models: 'BlockFFN on MiniCPM (arXiv 2507.08771)', golden: 'blockffn', isResearch: true },
};

type Oracle = 'transformers' | 'safetensors' | 'llamaCpp' | 'paper';

const folder = new URL('../../golden/', import.meta.url);
const read = <Value>(path: string): Value => JSON.parse(readFileSync(new URL(path, folder), 'utf8'));

/** By model; test/engine/architectures.test.ts writes it. */
const reached =
  read<Record<string, { transformers?: number; safetensors?: number; llamaCpp?: number; paper?: number }>>(
    'reached.json',
  );
const llamaCpp = read<{ models: Record<string, { reason?: string }> }>('llama-cpp-architectures.json').models;

/** Names of a folder's models. */
function readModels(of: string): string[] {
  const files = readdirSync(new URL(of, folder)).filter((file) => file.endsWith('.json'));
  return files.flatMap((file) => read<{ name: string }[]>(`${of}${file}`)).map(({ name }) => name);
}

/** The worst of one oracle over the models of a golden file, and over how many. */
function describeReached(golden: string | null, oracle: Oracle): string {
  const own = Object.entries(reached).filter(([model]) => model.replace(/-\d+$/, '') === golden);
  const differences = own.flatMap(([, differences]) => differences[oracle] ?? []);
  return differences.length === 0 ? 'none' : `${Math.max(...differences).toExponential(1)} (${differences.length})`;
}

it('every architecture of the registry is in the table, and every golden one is measured', () => {
  expect(architectures.map(({ name }) => name)).toEqual(Object.keys(SUPPORT));
  const ggufs = readModels('architectures/');
  const folders = readModels('safetensors/');
  const research = readModels('research/');
  const goldens = Object.values(SUPPORT).flatMap(({ golden, isResearch }) => (isResearch ? [] : (golden ?? [])));
  const researched = Object.values(SUPPORT).flatMap(({ golden, isResearch }) => (isResearch ? golden : []));
  expect([...new Set(research.map((name) => name.replace(/-\d+$/, '')))].sort()).toEqual([...researched].sort());
  expect([...new Set(ggufs.map((name) => name.replace(/-\d+$/, '')))].sort()).toEqual([...goldens].sort());
  expect([...new Set([...ggufs, ...folders, ...research])].sort()).toEqual(Object.keys(reached).sort());
  expect(Object.keys(llamaCpp).sort()).toEqual([...ggufs].sort());
  for (const [name, { transformers, safetensors, llamaCpp: second, paper }] of Object.entries(reached)) {
    expect(transformers !== undefined, name).toBe(ggufs.includes(name));
    expect(safetensors !== undefined, name).toBe(folders.includes(name));
    expect(paper !== undefined, name).toBe(research.includes(name));
    expect(second !== undefined, name).toBe(ggufs.includes(name) && llamaCpp[name]?.reason === undefined);
  }
});

/** The worst that any of these oracles found of an architecture. */
function getWorstReached(golden: string, oracles: readonly Oracle[]): string {
  const own = Object.entries(reached).filter(([model]) => model.replace(/-\d+$/, '') === golden);
  const differences = own.flatMap(([, found]) => oracles.flatMap((oracle) => found[oracle] ?? []));
  return differences.length === 0 ? '–' : Math.max(...differences).toExponential(1);
}

it('the table in the README is made of them', async () => {
  const rows = architectures.map(({ name }) => {
    const { models, golden, isResearch } = SUPPORT[name] as Support;
    const sources = isResearch ? 'safetensors' : 'GGUF, safetensors';
    const cells = [['transformers', 'safetensors'] as const, ['llamaCpp'] as const, ['paper'] as const].map(
      (oracles) =>
        // OLMoE's GGUF files have an index of their own.
        golden === null && oracles[0] === 'llamaCpp'
          ? '[numerics](docs/numerics.md)'
          : getWorstReached(golden ?? name, oracles),
    );
    return `| ${models} | ${sources} | ${cells.join(' | ')} |`;
  });
  const table = `| models | read from | transformers | llama.cpp | paper's formulas |\n|---|---|---|---|---|\n${rows.join('\n')}`;
  const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');
  const made = readme.replace(/(<!-- architectures -->\n)[\s\S]*?(\n<!-- \/architectures -->)/, `$1${table}$2`);
  expect(made).toContain(table);
  await expect(made).toMatchFileSnapshot('../../../README.md');
});

it('docs/architectures.md is made of them', async () => {
  const getTypes = (name: string) =>
    hfModelTypes
      .filter(({ architecture }) => architecture === name)
      .map(({ modelType }) => `safetensors (\`${modelType}\`)`);
  const isResearch = ({ name }: { readonly name: string }) => SUPPORT[name]?.isResearch ?? false;
  const researchRows = architectures.filter(isResearch).map(({ name }) => {
    const { models, golden } = SUPPORT[name] as Support;
    return `| ${models} | ${getTypes(name).join(', ')} | ${describeReached(golden, 'paper')} |`;
  });
  const known = architectures.filter((architecture) => !isResearch(architecture));
  const rows = known.map(({ name }) => {
    const { models, golden } = SUPPORT[name] as Support;
    const cells = (['transformers', 'safetensors', 'llamaCpp'] as const).map((oracle) =>
      // OLMoE's GGUF files are the catalogue's, in five weight types.
      golden === null && oracle !== 'safetensors' ? '[numerics](numerics.md)' : describeReached(golden ?? name, oracle),
    );
    const sources = ['GGUF', ...getTypes(name)].join(', ');
    return `| ${models} | \`${name}\` | ${sources} | ${cells.join(' | ')} |`;
  });
  const reasons = Object.entries(llamaCpp).flatMap(([name, { reason }]) => (reason ? `- \`${name}\`: ${reason}.` : []));
  const text = `# Architectures

Made by test/unit/checkpoint/architectures.test.ts from the registry (src/checkpoint/architectures.ts) and from what test/engine/architectures.test.ts measured in full (test/golden/reached.json): the largest difference of any logit from the oracle's, as a share of the largest logit, and in brackets over how many tiny random F32 models, with prompts of 1, 7 and 130 tokens and 8 decoded ones. The oracles are transformers, on the GGUF file's weights and on other models that it saved as safetensors and loaded again, and llama.cpp on the same GGUF files. Each model also gives the same bits at its smallest budget and with everything resident. No published checkpoint of these sizes has been run.

| models | GGUF name | sources | transformers, GGUF | transformers, safetensors | llama.cpp |
|---|---|---|---|---|---|
${rows.join('\n')}

llama.cpp is no oracle of these models:

${reasons.join('\n')}

DeepSeek's latent attention is computed absorbed: a position's cache is its latent and one turned key, 576 values in V2-Lite; files that keep keys and values of the heads in one tensor have the keys' part transposed while they are installed, as F32 where it was quantised. LFM2's convolutions keep their state by position, in a ring as long as a pass and the taps before it, so that a resumed or refused pass finds it as it was. Phi-3.5-MoE keeps the short rotary factors at every length, as transformers does. gpt-oss's expert matrices may be MXFP4, in both sources; the models here are F32. A file whose keys, or a config.json whose fields, ask for something else is refused with the key and what is accepted.

## The research line

Read from folders of safetensors as the authors' code names their tensors and fields; no converter to GGUF and neither llama.cpp nor transformers knows them. The oracle is a PyTorch model written from the paper's formulas (test/oracle/research_models.py), and everything said above of sizes, prompts and budgets holds. None of the authors' checkpoints has been run.

| models | sources | the paper's formulas |
|---|---|---|
${researchRows.join('\n')}

A token may use fewer experts than it may at most: places without one cost neither a page nor a product, and traces list the experts there are.

- AdaMoE's null experts are candidates without a page; its \`model_type\` is webmoe's name, since the authors patch Mixtral's classes.
- Dynamic routing's most experts per token follow from p: floor(p · experts) + 1 of the largest probabilities pass it.
- RMoE's router state goes through the layers of one token, never from token to token; of the authors' options its second cell (\`rnn\`), the shared expert and the bias are refused.
- OpenMoE's expert multiplies three products of its input, x1 · silu(x2) · up, and a layer with experts has a dense MLP of its own behind them, which counts as a layer that mixes nothing; no expert has a capacity, so none drops a token, and a decoded query turns as far as a prefilled one, which the authors' code does otherwise.
- ReXMoE's layers choose from the experts of a group of neighbours: a page is an expert of the group, so one slot serves all its layers, a budget counts it once, and a fault of one layer may evict what another had; a group's waves go layer by layer, and guesses that want more pages than there are slots wait for faults instead. Its authors have released no code: \`model_type\`, \`expert_reuse_layers\` and the tensors' names are webmoe's.
- A round of Chain-of-Experts is a layer, in statistics, budgets' warnings and traces too: the first with the attention, the others with a router (or the first one's) and nothing else of their own; all share one group of pages, and the experts that every token shares are on the GPU once. The residual stream goes on behind the norm, as in the paper; \`outer_residual\` is refused, and so is a chain without \`inner_residual\`.
- A routing trace does not say which layers share pages: \`npm run replay\` plays each of them with a cache of its own, and what it counts for these two is for layers without shared pages.
- A BlockFFN token may use every expert, so a budget for all that a token may choose would be one for all there are: as the only model it accepts fewer, down to one slot, and its layers run in waves where a token wants more than there are slots; its attention is MiniCPM's, plain or latent, and its scores may be normed (\`rms\`), divided by their sum or neither.
`;
  await expect(text).toMatchFileSnapshot('../../../docs/architectures.md');
});
