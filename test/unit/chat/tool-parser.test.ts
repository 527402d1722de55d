import { describe, expect, it } from 'vitest';
import { type AnswerPart, createToolParser } from '../../../src/chat/tool-parser';
import type { ToolFamily } from '../../../src/text/tool-family';
import { createRandom } from '../random';

const NAMES = ['get_weather', 'add'];

/** Neighbouring parts of a kind as one; a call with its arguments as [name, arguments]. */
function read(family: ToolFamily, pieces: readonly string[]): (string | [kind: string, ...texts: string[]])[] {
  const parser = createToolParser(family, NAMES);
  const parts = [...pieces.flatMap((piece) => parser.push(piece)), ...parser.flush()];
  return parts.reduce<(string | [string, ...string[]])[]>((all, part: AnswerPart) => {
    const last = all.at(-1);
    if (part.kind === 'text') {
      if (typeof last === 'string') all[all.length - 1] = last + part.text;
      else all.push(part.text);
    } else if (part.kind === 'call') all.push([part.name, '']);
    else if (part.kind === 'arguments') (last as string[])[1] += part.text;
    else if (Array.isArray(last) && last[0] === 'thinks') last[1] += part.text;
    else all.push(['thinks', part.text]);
    return all;
  }, []);
}

const weather = '{"city": "a \\"}{", "days": [1, {"x": null}]}';
const cases: readonly [ToolFamily, string, ReturnType<typeof read>][] = [
  ['hermes', 'plain < text <tool', ['plain < text <tool']],
  [
    'hermes',
    `Let me see. <tool_call>\n{"name": "get_weather", "arguments": ${weather}}\n</tool_call>\n<tool_call>{"name":"add","arguments":{}}</tool_call>`,
    ['Let me see. ', ['get_weather', weather], ['add', '{}']],
  ],
  ['hermes', `<tool_call>{"name": "add", "arguments": {"a": 1`, [['add', '{"a": 1']]],
  [
    'hermes',
    '<tool_call>{"name": "rm", "arguments": {}}</tool_call>',
    ['<tool_call>{"name": "rm", "arguments": {}}</tool_call>'],
  ],
  ['hermes', '<tool_call>nothing', ['<tool_call>nothing']],
  [
    'mistral',
    `[TOOL_CALLS][{"name": "get_weather", "arguments": ${weather}}, {"name": "add", "arguments": {"a": 1}}]`,
    [
      ['get_weather', weather],
      ['add', '{"a": 1}'],
    ],
  ],
  ['mistral', 'Sure.[TOOL_CALLS]add[ARGS]{"a": 2}', ['Sure.', ['add', '{"a": 2}']]],
  ['mistral', 'nothing [TOOL', ['nothing [TOOL']],
  ['json', `  {"name": "get_weather", "parameters": ${weather}}`, [['get_weather', weather]]],
  ['json', 'The object {"name": "add", "arguments": {}}', ['The object {"name": "add", "arguments": {}}']],
  ['json', '{"a": 1}', ['{"a": 1}']],
  [
    'harmony',
    '<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hello',
    [['thinks', 'Hm.'], 'Hello'],
  ],
  [
    'harmony',
    `<|channel|>analysis<|message|>So<|end|><|start|>assistant<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1}`,
    [
      ['thinks', 'So'],
      ['add', '{"a": 1}'],
    ],
  ],
];

describe('calls of tools', () => {
  it.each(cases)('%s: %j', (family, text, expected) => {
    expect(read(family, [text])).toEqual(expected);
    expect(read(family, [...text])).toEqual(expected);
    const random = createRandom(text.length);
    for (let trial = 0; trial < 20; trial++) {
      const pieces: string[] = [];
      for (let at = 0; at < text.length; ) {
        const length = random.integer(1, 12);
        pieces.push(text.slice(at, at + length));
        at += length;
      }
      expect(read(family, pieces)).toEqual(expected);
    }
  });

  it('are streamed while they are written', () => {
    const parser = createToolParser('hermes', NAMES);
    expect(parser.push('<tool_call>{"name": "add", "arguments": {"a"')).toEqual([
      { kind: 'call', name: 'add' },
      { kind: 'arguments', text: '{"a"' },
    ]);
    expect(parser.push(': 12')).toEqual([{ kind: 'arguments', text: ': 12' }]);
    expect(parser.push('}}</tool_call>')).toEqual([{ kind: 'arguments', text: '}' }]);
    expect(parser.flush()).toEqual([]);
  });

  it('are left alone where there are no tools', () => {
    const parser = createToolParser('hermes', []);
    expect(parser.push('<tool_call>{')).toEqual([{ kind: 'text', text: '<tool_call>{' }]);
  });
});
