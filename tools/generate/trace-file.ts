/** The file that `--trace` names; its format is src/routing/trace.ts. */
import type { LoadedModel, TraceEntry } from '../../src/engine/engine.ts';
import { formatTraceHeader, formatTraceToken } from '../../src/routing/trace.ts';
import { writeOutputFile } from '../output-file.ts';

/** Replaces an older file. `entries`: one conversation, in order. */
export async function writeTrace(path: string, model: LoadedModel, entries: readonly TraceEntry[]): Promise<void> {
  const { name, moeLayers, moeLayerIndices, experts, expertsPerToken } = model;
  const header = { model: name, layers: moeLayers, layerIndices: moeLayerIndices, experts, expertsPerToken };
  await writeOutputFile(path, [
    formatTraceHeader(header),
    ...entries.map(({ token, phase, routes }) => formatTraceToken({ sequence: 0, token, phase, routes })),
  ]);
}
