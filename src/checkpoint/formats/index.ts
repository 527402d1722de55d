/** The registry of weight types: adding one is its file and its line here. */
import { assert } from '../../errors';
import type { WeightType } from '../model-config';
import { bf16 } from './bf16';
import { f16 } from './f16';
import { f32 } from './f32';
import { q4_0 } from './q4-0';
import { q8_0 } from './q8-0';
import type { WeightFormat } from './weight-format';

export const weightFormats: readonly WeightFormat[] = [f32, f16, bf16, q4_0, q8_0];

export function getWeightFormat(type: WeightType): WeightFormat {
  const format = weightFormats.find((candidate) => candidate.type === type);
  assert(format, `weight type ${type} is registered`);
  return format;
}

/** The format with this GGUF type number, or undefined when webmoe does not read it. */
export function findGgmlFormat(ggmlType: number): WeightFormat | undefined {
  return weightFormats.find((candidate) => candidate.ggmlType === ggmlType);
}
