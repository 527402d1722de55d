/**
 * Messages to prompt tokens by the model's own Jinja template, in which only the template can write special tokens.
 * Owns the disguise that keeps message contents from doing so; @huggingface/jinja renders (docs/decisions/0008).
 *
 * Contents reach the template almost as they are, so that it can trim and compare them: of each text that is, or could
 * together with template text become, a special token, one character is replaced by a private-use character. After
 * rendering, special tokens that are still found were written by the template; then the characters are put back and
 * the stretches between are encoded as plain text. Consequence: a template that looks for a special token inside a
 * content does not find it.
 */
import { Template } from '@huggingface/jinja';
import type { TokenizerData } from '../checkpoint/manifest';
import { EngineError } from '../errors';
import type { Tokenizer } from './tokenizer';

export interface TemplateMessage {
  readonly role: string;
  readonly content: string;
  readonly toolCalls?: readonly { readonly id: string; readonly name: string; readonly arguments: string }[];
  readonly toolCallId?: string;
}

/** A function that the template may list. */
export interface TemplateTool {
  readonly name: string;
  readonly description?: string;
  readonly parameters?: Readonly<Record<string, unknown>>;
}

const ROLES: readonly string[] = ['system', 'user', 'assistant', 'tool'];
const PRIVATE_USE_START = 0xe000;
const PRIVATE_USE_END = 0xf8ff;

/**
 * Renders messages to prompt token ids.
 * @throws EngineError `BAD_ARGUMENT` when there is no template, the template refuses, or a message is not one;
 * `UNSUPPORTED` when the template cannot be parsed.
 */
export function renderChat(
  data: TokenizerData,
  tokenizer: Tokenizer,
  messages: readonly TemplateMessage[],
  options: { readonly addGenerationPrompt: boolean; readonly tools?: readonly TemplateTool[] | undefined },
): number[] {
  const { chatTemplate, tokens, bosId, endIds } = data;
  if (chatTemplate === null) {
    throw new EngineError('BAD_ARGUMENT', 'the model has no chat template; give a bare prompt instead of messages');
  }
  checkMessages(messages);
  const { tools = [] } = options;
  const disguise = new Disguise(tokenizer.specialTexts, [chatTemplate, JSON.stringify([messages, tools])]);
  const template = parseTemplate(chatTemplate);
  const endId = endIds[0];
  let rendered: string;
  try {
    rendered = template.render({
      messages: messages.map((message) => describeMessage(message, disguise)),
      ...(tools.length > 0 && { tools: tools.map((tool) => ({ type: 'function', function: disguise.hideAll(tool) })) }),
      add_generation_prompt: options.addGenerationPrompt,
      bos_token: bosId === null ? '' : tokens[bosId],
      eos_token: endId === undefined ? '' : tokens[endId],
    });
  } catch (error) {
    const reason = disguise.reveal(error instanceof Error ? error.message : String(error));
    throw new EngineError('BAD_ARGUMENT', `the model's chat template refused the messages: ${reason}`, {
      cause: error,
    });
  }
  return tokenizer
    .splitSpecial(rendered)
    .flatMap((piece) =>
      typeof piece === 'number'
        ? piece
        : tokenizer.encode(disguise.reveal(piece), { parseSpecial: false, addBos: false }),
    );
}

/** A message as templates know it: the fields of OpenAI's API, but the arguments of a call as an object. */
function describeMessage({ role, content, toolCalls, toolCallId }: TemplateMessage, disguise: Disguise): object {
  return {
    role,
    content: disguise.hide(content),
    ...(toolCalls && {
      tool_calls: toolCalls.map((call) => ({
        id: disguise.hide(call.id),
        type: 'function',
        function: { name: disguise.hide(call.name), arguments: disguise.hideAll(parseArguments(call.arguments)) },
      })),
    }),
    ...(toolCallId !== undefined && { tool_call_id: disguise.hide(toolCallId) }),
  };
}

function parseArguments(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // A model may have written no JSON; the template then shows what it wrote.
    return text;
  }
}

function checkMessages(messages: readonly TemplateMessage[]): void {
  if (messages.length === 0) throw new EngineError('BAD_ARGUMENT', 'a chat has 0 messages; give at least one');
  for (const [i, { role, content }] of messages.entries()) {
    if (!ROLES.includes(role)) {
      throw new EngineError('BAD_ARGUMENT', `message ${i} has role "${role}"; roles are ${ROLES.join(', ')}`);
    }
    if (typeof content !== 'string') {
      throw new EngineError('BAD_ARGUMENT', `message ${i} has a content of type ${typeof content}; give a string`);
    }
  }
}

function parseTemplate(source: string): Template {
  try {
    return new Template(source);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new EngineError(
      'UNSUPPORTED',
      `the model's chat template cannot be read (${reason}); give a bare prompt instead of messages`,
      { cause: error },
    );
  }
}

/** Replaces single characters (UTF-16 units) by private-use ones that occur nowhere else, and back. */
class Disguise {
  private readonly free: Iterator<string>;
  private readonly masks = new Map<string, string>();
  private readonly originals = new Map<string, string>();
  /** Every beginning, and every end, of a special token but the whole. */
  private readonly beginnings = new Set<string>();
  private readonly ends = new Set<string>();
  private readonly longest: number;

  constructor(
    private readonly specialTexts: readonly string[],
    taken: readonly string[],
  ) {
    const used = new Set([...taken, ...specialTexts].flatMap((text) => text.match(/[\ue000-\uf8ff]/g) ?? []));
    this.free = (function* () {
      for (let code = PRIVATE_USE_START; code <= PRIVATE_USE_END; code++) {
        const character = String.fromCharCode(code);
        if (!used.has(character)) yield character;
      }
    })();
    this.longest = Math.max(0, ...specialTexts.map((text) => text.length));
    for (const text of specialTexts) {
      for (let i = 1; i < text.length; i++) {
        this.beginnings.add(text.slice(0, i));
        this.ends.add(text.slice(i));
      }
    }
  }

  /** Hides every text in plain data, names of members included. */
  hideAll(value: unknown): unknown {
    if (typeof value === 'string') return this.hide(value);
    if (Array.isArray(value)) return value.map((item) => this.hideAll(item));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [this.hide(name), this.hideAll(item)]));
  }

  hide(content: string): string {
    const units = content.split('');
    const mask = (at: number): void => {
      units[at] = this.getMask(content.charAt(at));
    };
    for (const special of this.specialTexts) {
      for (let at = content.indexOf(special); at >= 0; at = content.indexOf(special, at + 1)) mask(at);
    }
    // Templates often trim: what joins template text may be the content without the space around it.
    this.hideEdges(0, content.length, content, mask);
    this.hideEdges(content.length - content.trimStart().length, content.trimEnd().length, content, mask);
    return units.join('');
  }

  /** Masks what could complete a special token together with template text before or behind `content[start, end)`. */
  private hideEdges(start: number, end: number, content: string, mask: (at: number) => void): void {
    const text = content.slice(start, Math.max(start, end));
    if (text !== '' && this.specialTexts.some((special) => special.includes(text))) mask(start);
    for (let length = 1; length <= Math.min(this.longest, text.length); length++) {
      if (this.beginnings.has(text.slice(-length))) mask(end - length);
      if (this.ends.has(text.slice(0, length))) mask(start + length - 1);
    }
  }

  reveal(text: string): string {
    return text.replace(/[\ue000-\uf8ff]/g, (character) => this.originals.get(character) ?? character);
  }

  private getMask(unit: string): string {
    const known = this.masks.get(unit);
    if (known !== undefined) return known;
    const next = this.free.next();
    if (next.done) {
      throw new EngineError('BAD_ARGUMENT', 'the messages use every private-use character; leave some of them out');
    }
    this.masks.set(unit, next.value);
    this.originals.set(next.value, unit);
    return next.value;
  }
}
