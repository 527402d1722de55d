/** Random JSON schemas with bounded lengths and counts: nesting, enums, arrays, required members, numbers, patterns. */
import type { JsonSchema } from '../../../src/text/schema-grammar';

/** @param random numbers in [0, 1). */
export function createRandomSchema(random: () => number, depth = 0): JsonSchema {
  const pick = <T>(...choices: readonly T[]): T => choices[Math.floor(random() * choices.length)] as T;
  const int = (most: number) => Math.floor(random() * (most + 1));
  const nested = () => createRandomSchema(random, depth + 1);
  const leaf = (): JsonSchema => {
    const low = int(40) - 20;
    return pick<() => JsonSchema>(
      () => ({ type: 'string', minLength: int(2), maxLength: 2 + int(6) }),
      () => ({
        type: 'string',
        pattern: pick('^[a-c]{1,3}$', '^\\d{2}:\\d{2}$', '(yes|no)?', '^[A-Z][a-z]{0,4}(-x)?$'),
      }),
      () => ({ enum: [pick('red', 'a"b', 'x y'), int(9), pick(null, true), { k: [int(3)] }] }),
      () => ({ const: pick<unknown>('only', 7, false, [1, 'a']) }),
      () => ({ type: 'integer', minimum: low, maximum: low + int(300) }),
      () => ({ type: 'number', minimum: low, exclusiveMaximum: low + 1 + int(5) }),
      () => ({ type: pick('integer', 'number', 'boolean', 'null') }),
      () => ({ type: ['null', 'integer'], minimum: 0 }),
    )();
  };
  const object = (): JsonSchema => {
    const names = ['id', 'name', 'tags', 'a b', 'é', 'q"'].slice(0, 1 + int(4));
    return {
      type: 'object',
      title: 'An object',
      properties: Object.fromEntries(names.map((name) => [name, nested()])),
      required: names.filter(() => random() < 0.6),
      ...(random() < 0.5 && { additionalProperties: false }),
    };
  };
  if (depth === 0) return object();
  if (depth >= 3 || random() < 0.55) return leaf();
  return pick<() => JsonSchema>(
    object,
    () => ({ type: 'array', items: nested(), minItems: int(2), maxItems: 2 + int(2) }),
    () => ({ anyOf: [nested(), nested()] }),
  )();
}
