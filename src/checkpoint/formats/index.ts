/** The registry of weight types: adding one is its file and its line here. */
import { assert } from '../../errors';
import type { WeightType } from '../model-config';
import { bf16 } from './bf16';
import { f16 } from './f16';
import { f32 } from './f32';
import { iq4_nl } from './iq4-nl';
import { mxfp4 } from './mxfp4';
import { q2_k } from './q2-k';
import { q3_k } from './q3-k';
import { q4_0 } from './q4-0';
import { q4_1 } from './q4-1';
import { q4_k } from './q4-k';
import { q5_0 } from './q5-0';
import { q5_1 } from './q5-1';
import { q5_k } from './q5-k';
import { q6_k } from './q6-k';
import { q8_0 } from './q8-0';
import type { WeightFormat } from './weight-format';

export const weightFormats: readonly WeightFormat[] = [
  f32,
  f16,
  bf16,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  mxfp4,
];

export function getWeightFormat(type: WeightType): WeightFormat {
  const format = weightFormats.find((candidate) => candidate.type === type);
  assert(format, `weight type ${type} is registered`);
  return format;
}

/** The format with this GGUF type number, or undefined when webmoe does not read it. */
export function findGgmlFormat(ggmlType: number): WeightFormat | undefined {
  return weightFormats.find((candidate) => candidate.ggmlType === ggmlType);
}
