/**
 * Manifests as an install would write them, from files made in memory or from golden ones. Nothing is stored: the digests
 * are empty, so no record can be read with them.
 */
import type { ByteSource } from '../../src/checkpoint/byte-source';
import { readGgufFile } from '../../src/checkpoint/gguf';
import { buildInstallPlan, buildManifest } from '../../src/checkpoint/install-plan';
import type { ModelManifest } from '../../src/checkpoint/manifest';
import { readGoldenModel } from '../golden';
import { memorySource, type TinyOlmoe, tinyOlmoe, writeTinyOlmoe } from './checkpoint/gguf-writer';

/** F32 weights, two experts per token. */
export function buildTestManifest(shape: Partial<TinyOlmoe> = {}): Promise<ModelManifest> {
  return readManifest(memorySource(writeTinyOlmoe(() => {}, { ...tinyOlmoe, ...shape })));
}

export async function buildGoldenManifest(name: string): Promise<ModelManifest> {
  return readManifest(memorySource(await readGoldenModel(name), name));
}

async function readManifest(source: ByteSource): Promise<ModelManifest> {
  const plan = buildInstallPlan(await readGgufFile(source));
  return buildManifest(plan, Object.fromEntries(plan.records.map(({ key }) => [key, ''])));
}
