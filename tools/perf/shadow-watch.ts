/**
 * Watches what runs in shadow behind the first fault of every generated token, and whether the token then misses it.
 * Drives passes as a generation does; owns the counts only.
 */
import type { GenerateRequest } from '../../src/engine/engine';
import { createForecast, splitLayers } from '../../src/engine/forecast';
import type { PassRequest } from '../../src/engine/pass';
import { PassRunner } from '../../src/engine/pass-runner';
import type { Runtime } from '../../src/engine/runtime';
import { getSamplingWords, resolveSampling } from '../../src/sampling/sampling';
import { renderChat } from '../../src/text/chat-template';
import { createTokenizer } from '../../src/text/tokenizer';
import type { ShadowCount } from './protocol';

/** By [distance - 1]. */
type Counts = { -readonly [K in keyof ShadowCount]: ShadowCount[K] }[];

export async function watchShadow(
  runtime: Runtime,
  requests: readonly GenerateRequest[],
  tokens: number,
): Promise<ShadowCount[]> {
  const { manifest, plan } = runtime;
  const { config, tokenizer: data } = manifest;
  const tokenizer = createTokenizer(data);
  const runner = new PassRunner(runtime);
  const counts: Counts = config.moeLayers.slice(1).map(() => ({ misses: 0, named: 0, falsePages: 0 }));
  for (const [index, { messages, tokenIds }] of requests.entries()) {
    const promptIds = messages
      ? renderChat(data, tokenizer, messages, { addGenerationPrompt: true })
      : [...(tokenIds ?? [])];
    const sampling = resolveSampling({ temperature: 0.7, seed: index });
    const getPass = (ids: readonly number[], position: number, isLast: boolean): PassRequest => ({
      tokenIds: ids,
      position,
      logitRows: isLast ? 1 : 0,
      sampling: isLast ? getSamplingWords(sampling, config.vocabSize, position + ids.length) : null,
      readLogits: false,
      isChunk: position < promptIds.length,
    });
    let nextId = 0;
    for (let at = 0; at < promptIds.length; at += plan.state.rows) {
      const chunk = promptIds.slice(at, at + plan.state.rows);
      const isLast = at + chunk.length === promptIds.length;
      const result = await runner.run(getPass(chunk, at, isLast), {
        segmentLayers: 1,
        runAhead: 0,
        getExpected: () => [],
      });
      nextId = result.sampledIds[0] ?? 0;
    }
    for (let generated = 1; generated < tokens; generated++) {
      nextId = await runWatched(runtime, runner, getPass([nextId], promptIds.length + generated - 1, true), counts);
    }
  }
  return counts;
}

async function runWatched(
  { manifest, pager, calibration }: Runtime,
  runner: PassRunner,
  request: PassRequest,
  counts: Counts,
): Promise<number> {
  const layers = manifest.pageLayouts.length;
  const { experts, expertsPerToken } = manifest.config.moe;
  const forecast = createForecast('none', { layers, experts, expertsPerToken });
  /** Absent experts by layer at the first fault, and those of them that the shadow named. */
  let first: { moeLayer: number; absent: Set<number>[]; named: Set<number>[] } | undefined;
  const { sampledIds, routes } = await runner.run(request, {
    segmentLayers: manifest.config.layers,
    runAhead: manifest.config.layers + 1,
    costs: { faultMs: calibration.roundTripMs, uploadMs: 0 },
    getExpected(fault) {
      const context = { tokenId: request.tokenIds[0] as number, position: request.position, previousId: null };
      const pages = forecast.getExpectedBehind(context, fault, 0);
      first ??= {
        moeLayer: fault.moeLayer,
        absent: Array.from(
          { length: layers },
          (_, moeLayer) => new Set([...Array(experts).keys()].filter((expert) => !pager.isResident(moeLayer, expert))),
        ),
        named: Array.from(
          { length: layers },
          (_, moeLayer) => new Set(pages.filter((page) => page.moeLayer === moeLayer).map(({ expert }) => expert)),
        ),
      };
      return pages;
    },
  });
  if (first) {
    const used = splitLayers(routes, layers).map((ids) => new Set(ids));
    for (let layer = first.moeLayer + 1; layer < layers; layer++) {
      const count = counts[layer - first.moeLayer - 1];
      if (!count) continue;
      for (const expert of first.absent[layer] ?? []) {
        const isNamed = first.named[layer]?.has(expert) ?? false;
        const isUsed = used[layer]?.has(expert) ?? false;
        if (isUsed) count.misses++;
        if (isUsed && isNamed) count.named++;
        if (!isUsed && isNamed) count.falsePages++;
      }
    }
  }
  return sampledIds[0] as number;
}
