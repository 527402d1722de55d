/**
 * Takes calls of tools out of a text as it is written, by the model's family. Pure; owns the text it holds back.
 * What turns out to be no call of a known tool comes out as the text it is.
 */
import type { ToolFamily } from '../text/tool-family';

export type AnswerPart =
  | { readonly kind: 'text'; readonly text: string }
  /** What a model thinks before it answers, where its template has a channel for it. */
  | { readonly kind: 'reasoning'; readonly text: string }
  /** A call begins. */
  | { readonly kind: 'call'; readonly name: string }
  /** More of the latest call's arguments, as JSON text. */
  | { readonly kind: 'arguments'; readonly text: string };

export interface ToolParser {
  push(text: string): AnswerPart[];
  /** What was held back, when no more text comes. */
  flush(): AnswerPart[];
}

/** @param names of the tools there are; without any, only harmony's channels are told apart. */
export function createToolParser(family: ToolFamily, names: readonly string[]): ToolParser {
  return family === 'harmony' ? new HarmonyParser(names) : new CallParser(family, names);
}

/** Length of the longest end of `text` that is a beginning of `mark`, but not all of it. */
function getOverlap(text: string, mark: string): number {
  for (let length = Math.min(text.length, mark.length - 1); length > 0; length--) {
    if (text.endsWith(mark.slice(0, length))) return length;
  }
  return 0;
}

/** Where a JSON object or list ends, from its first bracket on. */
class ValueEnd {
  #depth = 0;
  #inString = false;
  #escaped = false;

  /** Index behind the value's last character, or -1 when it goes on. */
  find(text: string): number {
    for (let i = 0; i < text.length; i++) {
      const character = text.charAt(i);
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false;
        else if (character === '\\') this.#escaped = true;
        else if (character === '"') this.#inString = false;
      } else if (character === '"') this.#inString = true;
      else if (character === '{' || character === '[') this.#depth++;
      else if ((character === '}' || character === ']') && --this.#depth === 0) return i + 1;
    }
    return -1;
  }
}

const BEGIN = { hermes: '<tool_call>', mistral: '[TOOL_CALLS]', json: '' } as const;
/** A call up to its arguments; the second form is that of newer Mistral models. */
const HEAD = /^[\s,;[]*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)/;
const BARE_HEAD = /^\s*([\w.-]+)\[ARGS\]\s*(?=\{)/;
/** What may stand between two calls, and behind the last. */
const BETWEEN = /^[\s}\],;]*/;
/** No head is longer: text that only looks like one is not held back for ever. */
const LONGEST_HEAD = 300;

/** hermes, mistral, json: calls are JSON objects behind a mark, or alone. */
class CallParser implements ToolParser {
  #state: 'text' | 'head' | 'arguments' | 'behind' = 'text';
  #held = '';
  /** The mark in front of what is held: text again, if no call follows. */
  #mark = '';
  #end = new ValueEnd();
  #hasText = false;
  /** Space behind a call is no text. */
  #isBehindCall = false;

  constructor(
    private readonly family: 'hermes' | 'mistral' | 'json',
    private readonly names: readonly string[],
  ) {}

  push(text: string): AnswerPart[] {
    if (this.names.length === 0) return text === '' ? [] : [{ kind: 'text', text }];
    this.#held += text;
    const parts: AnswerPart[] = [];
    while (this.#step(parts));
    return parts;
  }

  flush(): AnswerPart[] {
    const rest = this.#mark + this.#held;
    const isText = this.#state === 'text' || this.#state === 'head';
    this.#held = '';
    this.#mark = '';
    if (!isText || rest === '') return [];
    return [{ kind: 'text', text: rest }];
  }

  /** Takes one thing off what is held; false when more text is needed. */
  #step(parts: AnswerPart[]): boolean {
    switch (this.#state) {
      case 'text':
        return this.#readText(parts);
      case 'head':
        return this.#readHead(parts);
      case 'arguments':
        return this.#readArguments(parts);
      case 'behind':
        return this.#readBehind();
    }
  }

  #emitText(parts: AnswerPart[], text: string): void {
    if (text === '') return;
    this.#hasText ||= text.trim() !== '';
    this.#isBehindCall = false;
    parts.push({ kind: 'text', text });
  }

  #readText(parts: AnswerPart[]): boolean {
    const begin = BEGIN[this.family];
    if (begin === '') {
      // Only an answer that is nothing else is a call.
      const opened = /^\s*(?=[{[])/.exec(this.#held);
      if (opened && !this.#hasText) {
        this.#state = 'head';
        return true;
      }
      if (this.#hasText || this.#held.trim() !== '') {
        this.#emitText(parts, this.#held);
        this.#held = '';
      }
      return false;
    }
    if (this.#isBehindCall) this.#held = this.#held.trimStart();
    if (this.#held === '') return false;
    const at = this.#held.indexOf(begin);
    const until = at >= 0 ? at : this.#held.length - getOverlap(this.#held, begin);
    this.#emitText(parts, this.#held.slice(0, until));
    this.#held = this.#held.slice(at >= 0 ? at + begin.length : until);
    if (at < 0) return false;
    this.#mark = begin;
    this.#state = 'head';
    return true;
  }

  #readHead(parts: AnswerPart[]): boolean {
    const quoted = HEAD.exec(this.#held);
    const head = quoted ?? BARE_HEAD.exec(this.#held);
    const name = head ? readName(head[1] as string, quoted !== null) : undefined;
    if (head && name !== undefined && this.names.includes(name)) {
      parts.push({ kind: 'call', name });
      this.#held = this.#held.slice(head[0].length);
      this.#mark = '';
      this.#end = new ValueEnd();
      this.#state = 'arguments';
      return true;
    }
    if (!head && this.#held.length < LONGEST_HEAD) return false;
    this.#emitText(parts, this.#mark + this.#held);
    this.#held = '';
    this.#mark = '';
    this.#state = 'text';
    return false;
  }

  #readArguments(parts: AnswerPart[]): boolean {
    const end = this.#end.find(this.#held);
    const text = end < 0 ? this.#held : this.#held.slice(0, end);
    if (text !== '') parts.push({ kind: 'arguments', text });
    this.#held = this.#held.slice(text.length);
    if (end < 0) return false;
    this.#state = 'behind';
    return true;
  }

  #readBehind(): boolean {
    this.#held = this.#held.slice((BETWEEN.exec(this.#held) as RegExpExecArray)[0].length);
    if (this.#held === '') return false;
    const close = '</tool_call>';
    if (this.family === 'hermes') {
      if (close.startsWith(this.#held) && this.#held.length < close.length) return false;
      if (this.#held.startsWith(close)) this.#held = this.#held.slice(close.length);
      this.#isBehindCall = true;
      this.#state = 'text';
      return true;
    }
    this.#state = 'head';
    return true;
  }
}

function readName(text: string, isQuoted: boolean): string | undefined {
  if (!isQuoted) return text;
  try {
    return JSON.parse(text) as string;
  } catch {
    return undefined;
  }
}

const MESSAGE = '<|message|>';
const ENDS = ['<|end|>', '<|call|>', '<|return|>', '<|start|>', '<|channel|>'] as const;

/**
 * Harmony: messages of `<|channel|>HEADER<|message|>BODY`, each ended by a mark; the header names the channel and, behind
 * `to=functions.`, the tool. Source: OpenAI's description of the harmony format.
 */
class HarmonyParser implements ToolParser {
  #header: string | null = null;
  #body: 'text' | 'reasoning' | 'arguments' | null = 'text';
  #held = '';

  constructor(private readonly names: readonly string[]) {}

  push(text: string): AnswerPart[] {
    this.#held += text;
    const parts: AnswerPart[] = [];
    while (this.#step(parts));
    return parts;
  }

  flush(): AnswerPart[] {
    const rest = this.#header === null && this.#body !== null ? this.#held : '';
    this.#held = '';
    return rest === '' ? [] : [this.#getPart(rest)];
  }

  #getPart(text: string): AnswerPart {
    return { kind: this.#body ?? 'text', text };
  }

  #step(parts: AnswerPart[]): boolean {
    if (this.#header !== null) {
      const at = this.#held.indexOf(MESSAGE);
      if (at < 0) return false;
      this.#open(this.#held.slice(0, at), parts);
      this.#held = this.#held.slice(at + MESSAGE.length);
      return true;
    }
    const ends = ENDS.map((mark) => [this.#held.indexOf(mark), mark] as const).filter(([at]) => at >= 0);
    const [at, mark] = ends.sort((a, b) => a[0] - b[0])[0] ?? [-1, ''];
    const overlap = Math.max(...ENDS.map((end) => getOverlap(this.#held, end)));
    const until = at >= 0 ? at : this.#held.length - overlap;
    if (until > 0 && this.#body !== null) parts.push(this.#getPart(this.#held.slice(0, until)));
    this.#held = this.#held.slice(at >= 0 ? at + mark.length : until);
    if (at < 0) return false;
    this.#body = null;
    this.#header = mark === '<|start|>' || mark === '<|channel|>' ? '' : null;
    return true;
  }

  #open(header: string, parts: AnswerPart[]): void {
    this.#header = null;
    const name = /to=functions\.([\w.-]+)/.exec(header)?.[1];
    if (name !== undefined && this.names.includes(name)) {
      parts.push({ kind: 'call', name });
      this.#body = 'arguments';
    } else this.#body = /\banalysis\b/.test(header) ? 'reasoning' : 'text';
  }
}
