/**
 * Bytes to lines of UTF-8 text, as they arrive. Owns line numbers and the longest line; knows nothing of what a line says.
 */
import { EngineError } from '../errors';

export interface TextLine {
  readonly text: string;
  /** From 1. */
  readonly line: number;
}

/**
 * Lines without their ends (LF or CRLF). A last line without an end counts; empty lines at the end of the file do not.
 * @throws EngineError `BAD_FILE` for bytes that are not UTF-8, a line above `maxChars`, an empty line between others.
 */
export async function* readLines(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  name: string,
  maxChars: number,
): AsyncGenerator<TextLine> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let line = 0;
  let rest = '';
  let emptyLine = 0;
  const decode = (chunk?: Uint8Array): string => {
    try {
      return chunk ? decoder.decode(chunk, { stream: true }) : decoder.decode();
    } catch (cause) {
      throw new EngineError('BAD_FILE', `${name}, after line ${line}: bytes that are not UTF-8 text`, { cause });
    }
  };
  function* split(text: string): Generator<TextLine> {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > maxChars) throw tooLong(line + lines.length + 1);
    for (const whole of lines) {
      line++;
      if (whole.length > maxChars) throw tooLong(line);
      const trimmed = whole.endsWith('\r') ? whole.slice(0, -1) : whole;
      if (trimmed === '') {
        emptyLine ||= line;
        continue;
      }
      if (emptyLine) throw new EngineError('BAD_FILE', `${name}, line ${emptyLine}: it is empty; remove it`);
      yield { text: trimmed, line };
    }
  }
  const tooLong = (at: number) =>
    new EngineError('BAD_FILE', `${name}, line ${at}: longer than ${maxChars} characters; is it JSON Lines?`);
  for await (const chunk of chunks) yield* split(decode(chunk));
  yield* split(`${decode()}\n`);
}
