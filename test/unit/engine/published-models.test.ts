/** Memory plans of published checkpoints; docs/memory-plans.md is what this test computes (renew it with `vitest -u`). */
import { describe, expect, it } from 'vitest';
import { type MemoryPlan, planMemory } from '../../../src/engine/memory-plan';
import { EngineError } from '../../../src/errors';
import { describeManifest, publishedModels } from '../published-models';

const GIB = 2 ** 30;
const CONTEXT = 4096;
const BINDINGS = [128 << 20, 2 * GIB];
const BUDGETS = [2 * GIB, 4 * GIB, 8 * GIB];

/** Megabytes of an expert at 4.5 bits a weight, as published sizes give them. */
const EXPERT_MB: Readonly<Record<string, number>> = {
  'OLMoE-1B-7B': 3.5,
  'Qwen1.5-MoE-A2.7B': 4.9,
  'Qwen3-30B-A3B': 2.7,
  'Mixtral-8x7B': 99,
  'gpt-oss-20b': 13.2,
  'Granite-3.1-3b-a800m': 1.3,
  'Phi-3.5-MoE': 44,
  'DeepSeek-V2-Lite': 4.9,
  'LFM2-8B-A1B': 6.2,
  'ERNIE-4.5-21B-A3B': 6.6,
  'GLM-4.5-Air': 9.7,
  'Hunyuan-A13B': 21,
};

type Model = (typeof publishedModels)[number];

function plan(model: Model, bindingBytes: number, gpuBudgetBytes?: number): MemoryPlan {
  return planMemory(describeManifest(model), { bindingBytes }, { contextLength: CONTEXT, gpuBudgetBytes });
}

/** Slots per layer within a budget, or null where it is below the smallest. */
function getSlots(model: Model, bindingBytes: number, budgetBytes: number): number | null {
  try {
    return plan(model, bindingBytes, budgetBytes).slotsPerLayer;
  } catch (error) {
    if (error instanceof EngineError && error.code === 'BUDGET_TOO_SMALL') return null;
    throw error;
  }
}

function getSmallestBytes(model: Model, bindingBytes: number): number {
  const { fixedBytes } = plan(model, bindingBytes);
  const { pageLayouts, config } = describeManifest(model);
  return fixedBytes + pageLayouts.reduce((sum, page) => sum + page.pageBytes, 0) * config.moe.expertsPerToken;
}

describe.each(publishedModels.map((model) => [model.name, model] as const))('%s', (name, model) => {
  it('has pages of the size that its configuration gives', () => {
    const [page] = describeManifest(model).pageLayouts;
    expect((page?.pageBytes ?? 0) / 1e6 / (EXPERT_MB[name] as number)).toBeCloseTo(1, 1);
  });

  it.each(BINDINGS)('fits its budget exactly with bindings of %i bytes, down to the smallest that runs', (binding) => {
    for (const budget of BUDGETS) {
      const slots = getSlots(model, binding, budget);
      if (slots !== null) expect(plan(model, binding, budget).totalBytes).toBeLessThanOrEqual(budget);
      expect(slots === null).toBe(budget < getSmallestBytes(model, binding));
    }
    const smallest = getSmallestBytes(model, binding);
    expect(plan(model, binding, smallest)).toMatchObject({
      slotsPerLayer: model.config.moe.expertsPerToken,
      totalBytes: smallest,
    });
    expect(getSlots(model, binding, smallest - 1)).toBeNull();
  });
});

it('docs/memory-plans.md says what is planned', async () => {
  const toMiB = (bytes: number) => Math.ceil(bytes / 2 ** 20).toLocaleString('en');
  const rows = publishedModels.flatMap((model) =>
    BINDINGS.map((binding) => {
      const { fixedBytes, requests } = plan(model, binding);
      const residentBytes = requests.weights.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
      const [page] = describeManifest(model).pageLayouts;
      const slots = BUDGETS.map((budget) => getSlots(model, binding, budget) ?? '–');
      const { experts, expertsPerToken } = model.config.moe;
      const cells = [
        model.name,
        model.types.map((type) => type.toUpperCase()).join(' / '),
        binding === 2 * GIB ? '2 GiB' : '128 MiB',
        residentBytes.toLocaleString('en'),
        toMiB(fixedBytes),
        (page?.pageBytes ?? 0).toLocaleString('en'),
        `${expertsPerToken} of ${experts}`,
        ...slots,
        toMiB(getSmallestBytes(model, binding)),
      ];
      return `| ${cells.join(' | ')} |`;
    }),
  );
  const text = `# Memory plans of published checkpoints

Computed by test/unit/engine/published-models.test.ts from the checkpoints' configurations, with a context of ${CONTEXT} tokens and a KV cache in F32. "Resident" are the weights that are no experts, "fixed" these, cache and scratch. Slots are per layer; a dash means that the budget is below the smallest that runs, which has as many slots as a token needs experts. Whether a model answers well at a budget is another question: below twice the experts per token nearly every token waits.

| model | experts / other weights | largest binding | resident bytes | fixed MiB | page bytes | experts | slots at 2 GiB | 4 GiB | 8 GiB | smallest MiB |
|---|---|---|---|---|---|---|---|---|---|---|
${rows.join('\n')}
`;
  await expect(text).toMatchFileSnapshot('../../../docs/memory-plans.md');
});
