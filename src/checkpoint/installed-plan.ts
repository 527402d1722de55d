/** The plan of a model that is installed, made of its manifest alone: what its records are, without where they came from. */
import type { InstallPlan, InstallRecord } from './install-plan';
import { getPageKey, type ModelManifest } from './manifest';

/** Its records stand for themselves: the one range of each is as long as the record. */
export function planInstalled(manifest: ModelManifest): InstallPlan {
  const { modelId, name, sourceBytes, config, tokenizer, resident, pageLayouts } = manifest;
  const experts = Array.from({ length: config.moe.experts }, (_, expert) => expert);
  const records = [
    ...resident.map(({ key, matrix }) => createRecord(key, matrix.sizeBytes)),
    ...pageLayouts.flatMap(({ pageBytes }, group) =>
      experts.map((expert) => createRecord(getPageKey(group, expert), pageBytes)),
    ),
  ];
  return { modelId, name, sourceBytes, config, tokenizer, resident, pageLayouts, records, quantization: null };
}

function createRecord(key: string, sizeBytes: number): InstallRecord {
  return {
    key,
    sizeBytes,
    sourceRanges: [{ offsetBytes: 0, lengthBytes: sizeBytes, purpose: key }],
    pack: async ([bytes]) => new Uint8Array(bytes ?? []),
  };
}
