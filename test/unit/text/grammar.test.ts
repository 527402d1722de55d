/** The grammars of schemas and patterns against another judge: what a random walk through them writes, ajv accepts. */
import './node-xgrammar';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import type { TokenizerData } from '../../../src/checkpoint/manifest';
import { createGrammarEngine, type Grammar } from '../../../src/text/grammar';
import { getSchemaGrammar, type JsonSchema } from '../../../src/text/schema-grammar';
import { createTokenizer } from '../../../src/text/tokenizer';
import { createRandom } from '../random';
import { createRandomSchema } from './random-schema';

const END = '<|end|>';
/** Single characters, some longer tokens across JSON's borders, one that is only part of a character, and marks. */
const texts = [
  ...Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)),
  ...[
    '": "',
    '", "',
    '"}',
    '{"',
    '[]',
    'true',
    'null',
    '12',
    '-0',
    '.5',
    'e+',
    '\\"',
    '\\u00',
    'name',
    'é',
    '\t',
    '\u0001',
  ],
];
const spelling = (text: string) =>
  [...new TextEncoder().encode(text)]
    .map((byte) =>
      (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad)
        ? byte
        : byte < 0x21
          ? 256 + byte
          : byte === 0xad
            ? 323
            : 256 + byte - 94,
    )
    .map((code) => String.fromCharCode(code))
    .join('');
const data: TokenizerData = {
  model: 'gpt2',
  pre: 'gpt-2',
  tokens: [...texts.map(spelling), END],
  scores: null,
  tokenTypes: [...texts.map(() => 1), 3],
  merges: [],
  bosId: null,
  endIds: [texts.length],
  unknownId: null,
  addBos: false,
  addSpacePrefix: false,
  chatTemplate: null,
};
const tokenizer = createTokenizer(data);
const engine = createGrammarEngine(data, tokenizer, texts.length + 5);

/** Random allowed tokens until the end; the text, or null when it had no end by then. */
async function walk(grammar: Grammar, seed: number, limit = 400): Promise<string | null> {
  const { number: random } = createRandom(seed);
  const session = await engine.start(grammar);
  const bytes: number[] = [];
  for (let i = 0; i < limit; i++) {
    const mask = await session.readMask();
    const allowed = Array.from({ length: texts.length + 1 }, (_, id) => id).filter(
      (id) => ((mask[id >> 5]! >>> (id & 31)) & 1) === 1,
    );
    const id = allowed[Math.floor(random() * allowed.length)]!;
    session.accept(id);
    if (session.isComplete) {
      session.dispose();
      return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes));
    }
    bytes.push(...tokenizer.getTokenBytes(id));
  }
  session.dispose();
  return null;
}

/** Fails unless every walk that ends validates; returns how many ended. */
async function expectValid(schema: JsonSchema, walks: number): Promise<number> {
  const validate = new Ajv({ strict: false }).compile(schema as object);
  let ended = 0;
  for (let seed = 1; seed <= walks; seed++) {
    const text = await walk({ kind: 'json-schema', schema }, seed);
    if (text === null) continue;
    ended++;
    expect(validate(JSON.parse(text)), `${text} ${JSON.stringify(schema)} ${JSON.stringify(validate.errors)}`).toBe(
      true,
    );
  }
  return ended;
}

describe('what is not chosen yet', () => {
  const encode = (text: string) => tokenizer.encode(text, { parseSpecial: false, addBos: false });
  const getAllowed = (mask: Uint32Array | null) =>
    mask && [...texts.keys(), texts.length].filter((id) => ((mask[id >> 5]! >>> (id & 31)) & 1) === 1);

  it('is told as far as there is no choice, and leaves the session where it was', async () => {
    const session = await engine.start({ kind: 'regex', pattern: 'ab(cd|ce)f' });
    const first = await session.readMask();
    expect(session.getForced()).toEqual(encode('abc'));
    expect(session.countAllowed(encode('abcef'))).toBe(5);
    expect(session.countAllowed(encode('abfce'))).toBe(2);
    expect(session.countAllowed([])).toBe(0);
    expect(getAllowed(await session.readMaskBehind(encode('abc')))).toEqual(encode('de'));
    expect(getAllowed(await session.readMaskBehind(encode('abcdf')))).toEqual([texts.length]);
    expect(await session.readMaskBehind(encode('abf'))).toBeNull();
    // Behind the end there is nothing.
    expect(await session.readMaskBehind([...encode('abcdf'), texts.length])).toBeNull();
    expect(session.countAllowed([...encode('abcdf'), texts.length, ...encode('a')])).toBe(6);
    expect(await session.readMask()).toEqual(first);
    for (const id of encode('abc')) session.accept(id);
    expect(session.getForced()).toEqual([]);
    session.accept(encode('e')[0]!);
    expect(session.getForced()).toEqual(encode('f'));
    for (const id of [...encode('f'), texts.length]) session.accept(id);
    expect(session.isComplete).toBe(true);
    expect(session.getForced()).toEqual([]);
    session.dispose();
  });
});

describe('a schema', () => {
  it.each<[string, JsonSchema]>([
    ['bounds an integer from both sides', { type: 'integer', minimum: -13, exclusiveMaximum: 1205 }],
    ['bounds an integer from below', { type: 'integer', minimum: 7 }],
    ['bounds an integer from above', { type: 'integer', exclusiveMaximum: -99 }],
    ['bounds a number', { type: 'number', exclusiveMinimum: 0, maximum: 5 }],
    ['bounds a number below zero', { type: 'number', minimum: -20, exclusiveMaximum: -3 }],
    ['bounds a number around zero', { type: 'number', minimum: -2, maximum: 2 }],
    ['counts characters', { type: 'string', minLength: 2, maxLength: 5 }],
    ['matches a pattern', { type: 'string', pattern: '^[A-Z]{2}-\\d{3,5}(/[^ab]|"x"|\\s.)?$' }],
    ['escapes names and values', { type: 'object', properties: { 'a"b\\': { const: 'é"\\\n' } }, required: ['a"b\\'] }],
    ['takes optional members', { properties: { a: { type: 'null' }, b: { type: 'boolean' }, c: { enum: [1, 'x'] } } }],
    [
      'requires members that it does not describe',
      { type: 'object', required: ['x'], additionalProperties: { type: 'integer' } },
    ],
    ['maps names to values', { type: 'object', additionalProperties: { type: 'boolean' } }],
    ['counts items', { type: 'array', items: { type: 'boolean' }, minItems: 2, maxItems: 4 }],
    ['may have no items', { type: 'array', maxItems: 0 }],
    ['chooses among types', { type: ['null', 'string', 'integer'], maxLength: 2, minimum: 3, maximum: 9 }],
    ['keeps the enum values of its type', { type: 'string', enum: ['a', 1, null] }],
    ['chooses among schemas', { anyOf: [{ type: 'integer', minimum: 0, maximum: 3 }, { const: { a: [1, 2] } }] }],
    [
      'refers to itself',
      {
        $defs: {
          t: { properties: { next: { anyOf: [{ $ref: '#/$defs/t' }, { type: 'null' }] } }, required: ['next'] },
        },
        $ref: '#/$defs/t',
      },
    ],
    ['allows anything', true],
    ['allows any object', { type: 'object' }],
  ])('%s', async (_, schema) => {
    expect(await expectValid(schema, 25)).toBeGreaterThan(0);
  });

  it('made at random is obeyed by every walk that ends', async () => {
    const count = process.env.WEBMOE_FULL ? 300 : 40;
    let ended = 0;
    for (let seed = 1; seed <= count; seed++)
      ended += await expectValid(createRandomSchema(createRandom(seed).number), 3);
    expect(ended).toBeGreaterThan(count);
  });

  it.each<[JsonSchema, string, RegExp]>([
    [{ type: 'number', multipleOf: 2 }, 'UNSUPPORTED', /"multipleOf" at #/],
    [{ type: 'object', properties: { a: { not: {} } } }, 'UNSUPPORTED', /"not" at #\/properties\/a/],
    [{ oneOf: [{ type: 'null' }] }, 'UNSUPPORTED', /"oneOf"/],
    [{ type: 'array', uniqueItems: true }, 'UNSUPPORTED', /"uniqueItems"/],
    [{ type: 'string', format: 'email' }, 'UNSUPPORTED', /"format"/],
    [{ type: 'string', minimum: 3 }, 'UNSUPPORTED', /"minimum"/],
    [{ anyOf: [{ type: 'null' }], type: 'null' }, 'UNSUPPORTED', /"type" at # beside anyOf/],
    [{ allOf: [{}, {}] }, 'UNSUPPORTED', /"allOf" of 2/],
    [{ type: 'number', minimum: 0.5 }, 'UNSUPPORTED', /minimum 0.5.*whole numbers/],
    [{ type: 'string', pattern: 'a(?=b)' }, 'UNSUPPORTED', /\(\?=.*cannot enforce/],
    [{ type: 'string', pattern: '[一-龠]' }, 'UNSUPPORTED', /more than 256 characters beyond ASCII/],
    [{ type: 'string', pattern: '[^é]' }, 'UNSUPPORTED', /beyond ASCII/],
    [{ type: 'string', pattern: '(a)\\1' }, 'UNSUPPORTED', /\\1/],
    [{ type: 'string', pattern: 'a', minLength: 2 }, 'UNSUPPORTED', /"pattern" and a length/],
    [{ $ref: 'https://example.org/x' }, 'UNSUPPORTED', /only # is read/],
    [{ $ref: '#/$defs/x' }, 'BAD_ARGUMENT', /does not have/],
    [{ type: 'zzz' }, 'BAD_ARGUMENT', /type "zzz"/],
    [false, 'BAD_ARGUMENT', /nothing satisfies/],
    [{ type: 'integer', minimum: 3, maximum: 2 }, 'BAD_ARGUMENT', /no integer satisfies/],
    [{ type: 'string', minLength: 3, maxLength: 2 }, 'BAD_ARGUMENT', /maxLength 2 below minLength 3/],
    [{ type: 'string', maxLength: 1e9 }, 'BAD_ARGUMENT', /0 to 10000/],
    [{ type: 'null', enum: [1] }, 'BAD_ARGUMENT', /nothing satisfies/],
    [[] as never, 'BAD_ARGUMENT', /not an object/],
  ])('%j is refused', (schema, code, message) => {
    expect(() => getSchemaGrammar(schema)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });
});

describe('a pattern', () => {
  it.each([
    'a|bc|',
    '^(ab?){2,3}$',
    '[^a-y]+',
    '\\d{1,3}(\\.\\d{1,3}){3}',
    '"\\\\"',
    '[\\]\\-x-z]*?',
    '\\w\\W\\D\\S',
    '[à-ü]{2}\\S{2}',
    '[^x]{3}.',
    '[z-é]',
    '[\\s\\S]{4}',
  ])('%s is matched as a whole', async (pattern) => {
    const whole = new RegExp(`^(?:${pattern})$`, 'u');
    let ended = 0;
    for (let seed = 1; seed <= 20; seed++) {
      const text = await walk({ kind: 'regex', pattern }, seed);
      if (text === null) continue;
      ended++;
      expect(text).toMatch(whole);
    }
    expect(ended).toBeGreaterThan(0);
  });
});

describe('a grammar', () => {
  it('in EBNF is obeyed', async () => {
    for (let seed = 1; seed < 10; seed++) {
      expect(await walk({ kind: 'ebnf', source: 'root ::= "a" root "b" | "c"' }, seed)).toMatch(/^a*cb*$/);
    }
  });

  it('in tags leaves the text around them free', async () => {
    const schema: JsonSchema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] };
    const session = await engine.start({ kind: 'tagged', begin: '<c>', schema, end: '</c>' });
    const accept = (text: string) => {
      for (const character of text) session.accept(texts.indexOf(character));
    };
    accept('so: <c>');
    const mask = await session.readMask();
    expect(texts.filter((_, id) => ((mask[id >> 5]! >>> (id & 31)) & 1) === 1)).toEqual(['{', '{"']);
    accept('{"n": 12}</c> and <b>');
    session.accept(texts.length);
    expect(session.isComplete).toBe(true);
  });

  it('that is none is refused, and the engine goes on', async () => {
    const bad = engine.start({ kind: 'ebnf', source: 'root ::= nothing' });
    await expect(bad).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await expect(engine.start({ kind: 'lark' } as never)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    expect(await walk({ kind: 'regex', pattern: 'abc' }, 1)).toBe('abc');
  });

  it('that the vocabulary cannot write is refused when it comes to that', async () => {
    await expect(walk({ kind: 'regex', pattern: 'aб' }, 1)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});
