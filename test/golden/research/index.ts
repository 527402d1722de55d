/**
 * Typed access to the tiny models of the research line, as folders of safetensors, and what their papers' formulas make of them.
 * How they are made: ../../oracle/make_research.py.
 */
import { buildFolders, type FolderFile, type SafetensorsGolden } from '../safetensors';

const files = import.meta.glob<FolderFile[]>('./*.json', { import: 'default' });

/** Architectures by the names of their files. */
export const researchNames: readonly string[] = Object.keys(files).map((path) => path.slice(2, -5));

/** @param name one of `researchNames`. */
export async function loadResearch(name: string): Promise<SafetensorsGolden[]> {
  const load = files[`./${name}.json`];
  if (!load) throw new Error(`no golden research model "${name}"; known: ${researchNames.join(', ')}`);
  return buildFolders(await load());
}
