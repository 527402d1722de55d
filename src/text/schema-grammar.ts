/**
 * A JSON schema as an EBNF grammar: every text of the grammar parses as JSON and validates against the schema.
 * The reverse does not hold: members come in the order of `properties`, no others are added to them, and there is no space
 * but one behind a comma and a colon. A keyword that the grammar cannot enforce is refused by name, never ignored.
 * Sources: JSON Schema 2020-12 (core, validation); the EBNF is XGrammar's.
 */
import { EngineError } from '../errors';
import { getIntegerRange } from './integer-range';
import { getRegexExpression, quoteLiteral } from './regex-grammar';

/** A JSON schema; docs/chat.md lists the keywords that are enforced, others are refused by name. */
export type JsonSchema = boolean | { readonly [keyword: string]: unknown };
type SchemaObject = Exclude<JsonSchema, boolean>;

/** Keywords that say nothing about what is valid. */
const ANNOTATIONS: ReadonlySet<string> = new Set([
  ...['title', 'description', 'default', 'examples', 'deprecated', 'readOnly', 'writeOnly'],
  ...['$comment', '$schema', '$id', '$defs', 'definitions'],
]);

/** Keywords by the type of the value that they are about. */
const TYPE_KEYWORDS = {
  object: ['properties', 'required', 'additionalProperties'],
  array: ['items', 'minItems', 'maxItems'],
  string: ['minLength', 'maxLength', 'pattern'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  integer: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  boolean: [],
  null: [],
} as const;
type JsonType = keyof typeof TYPE_KEYWORDS;

/** Larger counts make grammars that take longer to compile than an answer takes. */
const MOST_REPEATS = 10_000;
/** Whole numbers that a double holds exactly, with room for one more digit. */
const MOST_INTEGER = 999_999_999_999_999;

/** Rules that every grammar has. A number stays finite and exact, a string can hold anything. */
const SHARED_RULES = [
  'any ::= string | number | boolean | "null" | anyArray | anyObject',
  'anyArray ::= "[" (any (", " any)*)? "]"',
  'anyObject ::= "{" (string ": " any (", " string ": " any)*)? "}"',
  'boolean ::= "true" | "false"',
  'integer ::= "0" | "-"? [1-9] [0-9]{0,14}',
  'number ::= "-"? ("0" | [1-9] [0-9]{0,14}) ("." [0-9]{1,15})? ([eE] [+-]? [0-9]{1,2})?',
  'plainCharacter ::= [^\\U00000000-\\U0000001f\\U00000022\\U0000005c\\U0000007f]',
  'escaped ::= "\\\\" ["\\\\/bfnrt]',
  'character ::= plainCharacter | escaped',
  'string ::= "\\"" (character | "\\\\u" [0-9a-fA-F]{4})* "\\""',
];

/**
 * @param start name of the rule that is the schema.
 * @throws EngineError `UNSUPPORTED` for a keyword that the grammar cannot enforce, `BAD_ARGUMENT` for a schema that is none or
 * that nothing satisfies.
 */
export function getSchemaGrammar(schema: JsonSchema, start = 'root'): string {
  return new SchemaReader(schema, start).read();
}

class SchemaReader {
  readonly #rules: string[] = [...SHARED_RULES];
  /** Rule by JSON pointer: what recursive references mean. */
  readonly #references = new Map<string, string>();

  constructor(
    private readonly root: JsonSchema,
    private readonly start: string,
  ) {}

  read(): string {
    this.#references.set('#', this.start);
    this.#rules.push(`${this.start} ::= ${this.#getExpression(this.root, '#')}`);
    return this.#rules.join('\n');
  }

  #addRule(expression: string): string {
    const name = `rule${this.#rules.length}`;
    this.#rules.push(`${name} ::= ${expression}`);
    return name;
  }

  #getExpression(schema: unknown, at: string): string {
    if (schema === true) return 'any';
    if (schema === false)
      throw new EngineError('BAD_ARGUMENT', `the JSON schema at ${at} is false: nothing satisfies it`);
    if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) {
      throw new EngineError('BAD_ARGUMENT', `the JSON schema at ${at} is ${JSON.stringify(schema)}, not an object`);
    }
    const own = schema as SchemaObject;
    for (const whole of ['$ref', 'anyOf', 'allOf', 'const', 'enum'] as const) {
      if (own[whole] === undefined) continue;
      const allowed = whole === 'enum' || whole === 'const' ? [whole, 'type'] : [whole];
      this.#refuseOthers(own, allowed, at, ` beside ${whole}`);
      return this.#getWhole(whole, own, at);
    }
    const types = this.#getTypes(own, at);
    const keywords = types.flatMap((type) => [...TYPE_KEYWORDS[type]]);
    this.#refuseOthers(own, ['type', ...keywords], at, '');
    if (types.length === 0) return 'any';
    const expressions = types.map((type) => this.#getTyped(type, own, at));
    return expressions.length === 1 ? (expressions[0] as string) : `(${expressions.join(' | ')})`;
  }

  #refuseOthers(schema: SchemaObject, allowed: readonly string[], at: string, where: string): void {
    const other = Object.keys(schema).find((keyword) => !allowed.includes(keyword) && !ANNOTATIONS.has(keyword));
    if (other === undefined) return;
    throw new EngineError(
      'UNSUPPORTED',
      `the JSON schema has "${other}" at ${at}${where}, which the grammar cannot enforce: leave it out, or check it afterwards`,
    );
  }

  #getWhole(keyword: '$ref' | 'anyOf' | 'allOf' | 'const' | 'enum', schema: SchemaObject, at: string): string {
    const value = schema[keyword];
    if (keyword === '$ref') return this.#getReferenced(value, at);
    if (keyword === 'const') return this.#getValues([value], schema, at);
    if (!Array.isArray(value) || value.length === 0) {
      throw new EngineError(
        'BAD_ARGUMENT',
        `the JSON schema has "${keyword}" at ${at} that is not a list of at least 1`,
      );
    }
    if (keyword === 'enum') return this.#getValues(value, schema, at);
    if (keyword === 'allOf' && value.length > 1) {
      throw new EngineError(
        'UNSUPPORTED',
        `the JSON schema has "allOf" of ${value.length} at ${at}, the grammar can enforce 1: merge them into one schema`,
      );
    }
    return `(${value.map((branch, i) => this.#getExpression(branch, `${at}/${keyword}/${i}`)).join(' | ')})`;
  }

  #getValues(values: readonly unknown[], schema: SchemaObject, at: string): string {
    const types = this.#getTypes(schema, at);
    const fitting = values.filter((value) => types.length === 0 || types.some((type) => isOfType(value, type)));
    if (fitting.length === 0) {
      throw new EngineError(
        'BAD_ARGUMENT',
        `the JSON schema at ${at} has no value of its own type: nothing satisfies it`,
      );
    }
    return `(${fitting.map((value) => quoteLiteral(JSON.stringify(value))).join(' | ')})`;
  }

  #getReferenced(pointer: unknown, at: string): string {
    if (typeof pointer !== 'string' || !/^#(\/|$)/.test(pointer)) {
      throw new EngineError(
        'UNSUPPORTED',
        `the JSON schema refers to ${JSON.stringify(pointer)} at ${at}: only # is read`,
      );
    }
    const known = this.#references.get(pointer);
    if (known) return known;
    const path = pointer.split('/').slice(1);
    const target = path.reduce<unknown>((value, part) => {
      const name = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
      return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
        ? (value as Record<string, unknown>)[name]
        : undefined;
    }, this.root);
    if (target === undefined) {
      throw new EngineError('BAD_ARGUMENT', `the JSON schema refers to ${pointer} at ${at}, which it does not have`);
    }
    // Named before it is read: it may refer to itself.
    const name = `reference${this.#references.size}`;
    this.#references.set(pointer, name);
    this.#rules.push(`${name} ::= ${this.#getExpression(target, pointer)}`);
    return name;
  }

  /** Empty: any. Without `type`, the types that its keywords are about. */
  #getTypes(schema: SchemaObject, at: string): JsonType[] {
    if (schema.type === undefined) {
      const implied = (['object', 'array', 'string', 'number'] as const).filter((type) =>
        TYPE_KEYWORDS[type].some((keyword) => schema[keyword] !== undefined),
      );
      return implied;
    }
    const types = Array.isArray(schema.type) ? schema.type : [schema.type];
    const unknown = types.find((type) => typeof type !== 'string' || !Object.hasOwn(TYPE_KEYWORDS, type));
    if (types.length === 0 || unknown !== undefined) {
      const known = Object.keys(TYPE_KEYWORDS).join(', ');
      throw new EngineError(
        'BAD_ARGUMENT',
        `the JSON schema has type ${JSON.stringify(schema.type)} at ${at}; types are ${known}`,
      );
    }
    return types;
  }

  #getTyped(type: JsonType, schema: SchemaObject, at: string): string {
    switch (type) {
      case 'null':
        return '"null"';
      case 'boolean':
        return 'boolean';
      case 'string':
        return this.#getString(schema, at);
      case 'integer':
      case 'number':
        return this.#getNumber(type, schema, at);
      case 'array':
        return this.#getArray(schema, at);
      case 'object':
        return this.#getObject(schema, at);
    }
  }

  #getString(schema: SchemaObject, at: string): string {
    const [least, most] = this.#getCounts(schema, 'minLength', 'maxLength', at);
    if (schema.pattern !== undefined) {
      if (schema.minLength !== undefined || schema.maxLength !== undefined) {
        const text = `the JSON schema has "pattern" and a length at ${at}: say the length in the pattern, as in {2,5}`;
        throw new EngineError('UNSUPPORTED', text);
      }
      return `"\\"" ${getRegexExpression(String(schema.pattern), 'json')} "\\""`;
    }
    // Without \u: half of a surrogate pair would count as a character.
    if (schema.minLength === undefined && most === null) return 'string';
    return `"\\"" character{${least},${most ?? ''}} "\\""`;
  }

  #getNumber(type: 'integer' | 'number', schema: SchemaObject, at: string): string {
    const bounds = TYPE_KEYWORDS.number.map((keyword) => {
      const bound = schema[keyword];
      if (bound !== undefined && !Number.isInteger(bound)) {
        const text = `the JSON schema has ${keyword} ${JSON.stringify(bound)} at ${at}; the grammar can enforce whole numbers only`;
        throw new EngineError('UNSUPPORTED', text);
      }
      return bound as number | undefined;
    });
    const [minimum, maximum, exclusiveMinimum, exclusiveMaximum] = bounds;
    if (bounds.every((bound) => bound === undefined)) return type;
    const clamp = (value: number): number => Math.max(-MOST_INTEGER, Math.min(MOST_INTEGER, value));
    const low = clamp(Math.max(minimum ?? -Infinity, exclusiveMinimum ?? -Infinity));
    const high = clamp(Math.min(maximum ?? Infinity, exclusiveMaximum ?? Infinity));
    const first = exclusiveMinimum === low ? low + 1 : low;
    const last = exclusiveMaximum === high ? high - 1 : high;
    const choices = first <= last ? [getIntegerRange(first, last)] : [];
    if (type === 'number' && low < high) {
      // A fraction that is never zero lies strictly between two whole numbers.
      const fraction = '"." [0-9]{0,5} [1-9]';
      if (high > 0) choices.push(`${getIntegerRange(Math.max(low, 0), high - 1)} ${fraction}`);
      if (low < 0) choices.push(`"-" ${getIntegerRange(Math.max(-high, 0), -low - 1)} ${fraction}`);
    }
    if (choices.length === 0) {
      throw new EngineError('BAD_ARGUMENT', `the JSON schema at ${at} has bounds that no ${type} satisfies`);
    }
    return this.#addRule(choices.join(' | '));
  }

  #getArray(schema: SchemaObject, at: string): string {
    const [least, most] = this.#getCounts(schema, 'minItems', 'maxItems', at);
    if (most === 0) return '"[]"';
    const item = schema.items === undefined ? 'any' : this.#addRule(this.#getExpression(schema.items, `${at}/items`));
    const more = `(", " ${item}){${Math.max(0, least - 1)},${most === null ? '' : most - 1}}`;
    return least === 0 ? `"[" (${item} ${more})? "]"` : `"[" ${item} ${more} "]"`;
  }

  #getObject(schema: SchemaObject, at: string): string {
    const { properties = {}, required = [], additionalProperties = true } = schema;
    if (typeof properties !== 'object' || properties === null || !Array.isArray(required)) {
      throw new EngineError('BAD_ARGUMENT', `the JSON schema at ${at} has properties or required of a wrong type`);
    }
    const names = new Set([...Object.keys(properties), ...(required as string[])]);
    const getMember = (name: string): string => {
      const isListed = Object.hasOwn(properties, name);
      const value = isListed ? (properties as Record<string, unknown>)[name] : additionalProperties;
      const path = isListed ? `${at}/properties/${name}` : `${at}/additionalProperties`;
      return `${quoteLiteral(`${JSON.stringify(name)}: `)} ${this.#addRule(this.#getExpression(value, path))}`;
    };
    if (names.size === 0) {
      if (additionalProperties === false) return '"{}"';
      const value = this.#addRule(this.#getExpression(additionalProperties, `${at}/additionalProperties`));
      return `"{" (string ": " ${value} (", " string ": " ${value})*)? "}"`;
    }
    // From the last member to the first: what may follow one that is written, and what may begin.
    let following = '""';
    let beginning: string | null = null;
    for (const name of [...names].reverse()) {
      const member = this.#addRule(getMember(name));
      const isRequired = required.includes(name);
      const begun: string = `${member} ${following}`;
      // Behind a required member, nothing without it; before it, nothing instead of it.
      beginning = isRequired ? begun : `${begun} | ${beginning ?? '""'}`;
      beginning = this.#addRule(beginning);
      following = this.#addRule(isRequired ? `", " ${begun}` : `", " ${begun} | ${following}`);
    }
    return `"{" ${beginning} "}"`;
  }

  #getCounts(schema: SchemaObject, least: string, most: string, at: string): [least: number, most: number | null] {
    const read = (keyword: string): number | null => {
      const count = schema[keyword];
      if (count === undefined) return null;
      if (!Number.isInteger(count) || (count as number) < 0 || (count as number) > MOST_REPEATS) {
        const text = `the JSON schema has ${keyword} ${JSON.stringify(count)} at ${at}; give an integer from 0 to ${MOST_REPEATS}`;
        throw new EngineError('BAD_ARGUMENT', text);
      }
      return count as number;
    };
    const [low, high] = [read(least) ?? 0, read(most)];
    if (high !== null && high < low) {
      throw new EngineError('BAD_ARGUMENT', `the JSON schema has ${most} ${high} below ${least} ${low} at ${at}`);
    }
    return [low, high];
  }
}

function isOfType(value: unknown, type: JsonType): boolean {
  switch (type) {
    case 'null':
      return value === null;
    case 'array':
      return Array.isArray(value);
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
    case 'integer':
      return Number.isInteger(value);
    default:
      return typeof value === type;
  }
}
