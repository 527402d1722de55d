/**
 * The documents of a file: chat documents as JSON Lines when the name ends in .jsonl, otherwise one plain text; both
 * also gzipped (.gz). Owns the checks of every line. Knows no tokens.
 */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { ScoreRequest } from '../src/engine/engine.ts';
import { readLines } from '../src/routing/text-lines.ts';
import { isChatMessage } from './chat-message.ts';
import { ToolError } from './tool-error.ts';

export interface ScoredDocument {
  /** For messages: the file, and the line where there are lines. */
  readonly place: string;
  /** The part of `source` before a slash; of a plain text, the file's name. */
  readonly source: string;
  readonly request: ScoreRequest;
  /** UTF-8 of the contents alone. */
  readonly contentBytes: number;
}

/** Unpacked; also stops a gzip file that unpacks without end. */
const maxBytes = 512 << 20;
const maxLineChars = 16 << 20;

/**
 * Every `every`-th document of the file, the first included. All lines are checked.
 * @param flag that named the file, for messages
 * @throws ToolError `BAD_ARGUMENT`; ToolError and EngineError `BAD_FILE`, naming the line.
 */
export async function readDocuments(path: string, every: number, flag = '--file'): Promise<ScoredDocument[]> {
  const found = await stat(path).catch(() => undefined);
  if (!found) throw new ToolError('BAD_ARGUMENT', `${flag} is "${path}", which does not exist; name a text or .jsonl`);
  if (found.isDirectory()) throw new ToolError('BAD_ARGUMENT', `${flag} is the folder "${path}"; name a file in it`);
  const documents: ScoredDocument[] = [];
  if (!/\.jsonl(\.gz)?$/i.test(path)) {
    documents.push(getTextDocument(path, await readText(path)));
  } else {
    let count = 0;
    for await (const { text, line } of readLines(readChunks(path), path, maxLineChars)) {
      const document = getChatDocument(text, `${path}, line ${line}`);
      if (count++ % every === 0) documents.push(document);
    }
    if (count === 0) throw new ToolError('BAD_FILE', `${path}: it is empty; JSON Lines has one document on each line`);
  }
  return documents;
}

async function* readChunks(path: string): AsyncGenerator<Uint8Array> {
  const file = createReadStream(path);
  let chunks: Readable = file;
  if (/\.gz$/i.test(path)) {
    const gunzip = createGunzip();
    file.once('error', (error) => gunzip.destroy(error));
    chunks = file.pipe(gunzip);
  }
  let doneBytes = 0;
  try {
    for await (const chunk of chunks) {
      doneBytes += chunk.length;
      if (doneBytes > maxBytes) {
        throw new ToolError('BAD_FILE', `${path}: longer than ${maxBytes} bytes of text; split it`);
      }
      yield chunk;
    }
  } catch (cause) {
    if (cause instanceof ToolError) throw cause;
    const { message } = cause as Error;
    throw new ToolError('BAD_FILE', `${path}: cannot be read after ${doneBytes} bytes of text (${message})`, { cause });
  } finally {
    file.destroy();
  }
}

async function readText(path: string): Promise<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let text = '';
  for await (const chunk of readChunks(path)) text += decode(chunk);
  return text + decode();

  function decode(chunk?: Uint8Array): string {
    try {
      return chunk ? decoder.decode(chunk, { stream: true }) : decoder.decode();
    } catch (cause) {
      throw new ToolError('BAD_FILE', `${path}: bytes that are not UTF-8 text; convert it`, { cause });
    }
  }
}

function getTextDocument(path: string, text: string): ScoredDocument {
  if (text === '') throw new ToolError('BAD_FILE', `${path}: it is empty; a text of at least two tokens is needed`);
  return { place: path, source: basename(path), request: { prompt: text }, contentBytes: Buffer.byteLength(text) };
}

function getChatDocument(line: string, place: string): ScoredDocument {
  const refuse = (why: string, cause?: unknown) =>
    new ToolError(
      'BAD_FILE',
      `${place}: ${why}; a line is {"source": "name", "messages": [{"role": "user", "content": "Hello"}, ...]}`,
      { cause },
    );
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw refuse(`not JSON (${(cause as Error).message})`, cause);
  }
  if (typeof value !== 'object' || value === null) throw refuse('not a JSON object');
  const { source, messages } = value as Readonly<Record<string, unknown>>;
  const name = typeof source === 'string' ? source.split('/', 1)[0] : undefined;
  if (!name) throw refuse('source is not a text with something before a slash');
  if (!Array.isArray(messages) || messages.length === 0) throw refuse('messages is not a list with at least one');
  const wrong = messages.findIndex((message) => !isChatMessage(message));
  if (wrong >= 0) throw refuse(`message ${wrong} needs a role (system, user or assistant) and a content that is text`);
  const chat = messages.filter(isChatMessage).map(({ role, content }) => ({ role, content }));
  const contentBytes = chat.reduce((sum, { content }) => sum + Buffer.byteLength(content), 0);
  if (contentBytes === 0) throw refuse('every content is empty');
  return { place, source: name, request: { messages: chat }, contentBytes };
}
