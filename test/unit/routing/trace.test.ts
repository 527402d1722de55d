import { expect, test } from 'vitest';
import { formatTraceHeader, formatTraceToken, readTrace, type TraceHeader } from '../../../src/routing/trace';

const header: TraceHeader = { model: 'm', layers: 2, layerIndices: [1, 2], experts: 8, expertsPerToken: 2 };
const token = { sequence: 0, token: 7, phase: 'prefill' as const, routes: [[3, 1], [0]] };
const encoder = new TextEncoder();

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

async function readAll(text: string, chunkBytes = 1 << 20): Promise<unknown[]> {
  const bytes = encoder.encode(text);
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += chunkBytes) chunks.push(bytes.subarray(at, at + chunkBytes));
  return collect(readTrace(chunks, 't.jsonl'));
}

function withLine(change: Record<string, unknown>): string {
  return formatTraceHeader(header) + formatTraceToken(token) + JSON.stringify({ ...token, ...change });
}

test('what is written is read back, however the bytes arrive', async () => {
  const decode = { sequence: 1, token: 0xffff_ffff, phase: 'decode' as const, routes: [[], [7, 6]] };
  const text = formatTraceHeader({ ...header, model: 'Ünï 模型' }) + formatTraceToken(token) + formatTraceToken(decode);
  for (const chunkBytes of [1, 7, 1 << 20]) {
    expect(await readAll(text, chunkBytes)).toEqual([{ ...header, model: 'Ünï 模型' }, token, decode]);
  }
});

test('a dense first layer, an expert count per token that varies, 512 experts and further fields are a trace', async () => {
  const wide = { ...header, experts: 512, expertsPerToken: 10 };
  const line = { ...token, routes: [[511, 0, 255, 256, 1, 2, 3, 4, 5, 6], []], extra: true };
  const items = await readAll(`${formatTraceHeader(wide)}${JSON.stringify(line)}`);
  expect(items[1]).toEqual({ ...token, routes: line.routes });
});

test('CRLF and empty lines at the end are no error', async () => {
  const text = (formatTraceHeader(header) + formatTraceToken(token)).replaceAll('\n', '\r\n');
  expect(await readAll(`${text}\r\n\n`)).toHaveLength(2);
});

const badHeaders: [string, Record<string, unknown>, RegExp][] = [
  ['no model', { model: undefined }, /line 1: model is missing/],
  ['no layers', { layers: 0 }, /line 1: layers is 0; it must be a whole number from 1 to 1024/],
  ['absurd experts', { experts: 1e9 }, /line 1: experts is 1000000000; .* to 4096/],
  ['more experts per token than experts', { expertsPerToken: 9 }, /expertsPerToken is 9; .* from 1 to 8/],
  ['layer indices of another length', { layerIndices: [1] }, /layerIndices is \[1\]; it must be a list of 2/],
  ['layer indices that fall', { layerIndices: [2, 1] }, /layerIndices\[1\] is 1/],
];
test.each(badHeaders)('a header with %s is refused', async (_name, change, message) => {
  const text = JSON.stringify({ ...header, ...change });
  await expect(readAll(`${text}\n${formatTraceToken(token)}`)).rejects.toMatchObject({
    code: 'BAD_FILE',
    message: expect.stringMatching(message),
  });
});

const badLines: [string, Record<string, unknown>, RegExp][] = [
  ['a sequence that is no number', { sequence: '0' }, /line 3: sequence is "0"/],
  ['a fractional token', { token: 1.5 }, /line 3: token is 1.5/],
  ['a negative token', { token: -1 }, /line 3: token is -1/],
  ['an unknown phase', { phase: 'train' }, /line 3: phase is "train"; allowed: prefill, decode/],
  ['too few layers', { routes: [[1]] }, /line 3: routes has 1 layers; the header says 2/],
  ['routes that are no list', { routes: 'x'.repeat(200) }, /line 3: routes is "x{56}\.\.\.;/],
  ['a layer that is no list', { routes: [[1], 2] }, /line 3: routes\[1\] is 2/],
  ['too many experts', { routes: [[1], [1, 2, 3]] }, /line 3: routes\[1\] has 3 experts; the header says at most 2/],
  ['an expert out of range', { routes: [[1], [0, 8]] }, /line 3: routes\[1\]\[1\] is 8; .* from 0 to 7/],
  ['an expert that is null', { routes: [[1], [null]] }, /line 3: routes\[1\]\[0\] is null/],
  ['an expert twice', { routes: [[1, 1], []] }, /line 3: routes\[0\] names expert 1 twice/],
];
test.each(badLines)('a line with %s is refused, named by line and field', async (_name, change, message) => {
  await expect(readAll(withLine(change))).rejects.toMatchObject({
    code: 'BAD_FILE',
    message: expect.stringMatching(message),
  });
});

test('a sequence number that falls is refused', async () => {
  const text = formatTraceHeader(header) + formatTraceToken({ ...token, sequence: 4 }) + formatTraceToken(token);
  await expect(readAll(text)).rejects.toThrow('line 3: sequence is 0; it must be a whole number from 4');
});

const badTexts: [string, string, RegExp][] = [
  ['an empty file', '', /it is empty/],
  ['a header alone', formatTraceHeader(header), /a header and no tokens/],
  ['a line cut short', `${formatTraceHeader(header)}{"sequence": 0, "tok`, /line 2: the line is not JSON .* cut short/],
  ['a list', `${formatTraceHeader(header)}[1]`, /line 2: the line is not a JSON object/],
  ['an empty line in the middle', `${formatTraceHeader(header)}\n${formatTraceToken(token)}`, /line 2: it is empty/],
  ['an endless line', `{"model": "${'x'.repeat(5 << 20)}`, /line 1: longer than 4194304 characters/],
];
test.each(badTexts)('%s is refused', async (_name, text, message) => {
  await expect(readAll(text)).rejects.toMatchObject({ code: 'BAD_FILE', message: expect.stringMatching(message) });
});

test('bytes that are not UTF-8 are refused', async () => {
  const chunks = [encoder.encode(formatTraceHeader(header)), Uint8Array.of(0xff, 0xfe)];
  await expect(collect(readTrace(chunks, 't'))).rejects.toThrow('t, after line 1: bytes that are not UTF-8');
});
