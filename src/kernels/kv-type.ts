/** What the KV cache stores values as: twin of the shaders' lib/kv_*.wgsl. Activations and sums are f32 whatever it is. */

export type KvType = 'f32' | 'f16' | 'q8';

/** A unit: how many values, in how many bytes. */
const UNITS: Readonly<Record<KvType, { readonly values: number; readonly bytes: number }>> = {
  f32: { values: 4, bytes: 16 },
  f16: { values: 4, bytes: 8 },
  // With its scale.
  q8: { values: 32, bytes: 36 },
};

export const kvTypes = Object.keys(UNITS) as readonly KvType[];

/** A type, or `auto`: f16 where the adapter has shader-f16, elsewhere f32. */
export type KvChoice = KvType | 'auto';

export const kvChoices: readonly KvChoice[] = [...kvTypes, 'auto'];

/** What `auto` is on an adapter: a function of its features, never of a budget. */
export function chooseKvType(hasF16: boolean, choice: KvChoice = 'f32'): KvType {
  if (choice !== 'auto') return choice;
  return hasF16 ? 'f16' : 'f32';
}

/** Bytes of the keys, or the values, of one head at one position. */
export function getKvRowBytes(type: KvType, headDim: number): number {
  const { values, bytes } = UNITS[type];
  return Math.ceil(headDim / values) * bytes;
}
