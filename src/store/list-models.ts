/** What a store has, whole models and begun ones. Reads only what is noted of them, never a record. */
import { PART_PREFIX } from './large-record';
import type { ModelStore } from './model-store';

export interface StoredModel {
  readonly modelId: string;
  readonly name: string;
  readonly sourceBytes: number;
  /** Share of its records that are there, 0 to 1. */
  readonly storedShare: number;
}

export async function listModels(store: ModelStore): Promise<StoredModel[]> {
  const [manifests, drafts] = await Promise.all([store.readModels(), store.readDrafts()]);
  const whole = manifests.map(({ modelId, name, sourceBytes }) => ({ modelId, name, sourceBytes, storedShare: 1 }));
  const begun = await Promise.all(
    drafts.map(async ({ modelId, name, sourceBytes, records }) => {
      const keys = [...(await store.readDigests(modelId)).keys()].filter((key) => !key.startsWith(PART_PREFIX));
      return { modelId, name, sourceBytes, storedShare: keys.length / records };
    }),
  );
  return [...whole, ...begun];
}
