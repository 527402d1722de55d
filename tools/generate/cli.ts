/**
 * `npm run generate`: one generation in headless Chromium, by the flags that README.md lists.
 * Owns stdout: the text, or with `--json` one object; everything else goes to stderr.
 */
import { readFile } from 'node:fs/promises';
import type { ChatMessage, GenerateRequest, TraceEntry } from '../../src/engine/engine.ts';
import { isChatMessage } from '../chat-message.ts';
import { type PageOutput, runEngine } from '../engine-page/run-engine.ts';
import { checkOutputPath } from '../output-file.ts';
import { ToolError } from '../tool-error.ts';
import { type GenerateFlags, type PromptFlag, parseGenerateFlags } from './flags.ts';
import { writeTrace } from './trace-file.ts';

export async function run(args: string[]): Promise<number> {
  const flags = parseGenerateFlags(args);
  // On a terminal the text appears as it is made; elsewhere at the end, so that an error leaves stdout empty.
  const streams = process.stdout.isTTY && !flags.json;
  const routes: TraceEntry[] = [];
  const onOutput = (output: PageOutput) => {
    if (output.kind === 'routes') routes.push(...output.entries);
    else if (streams) process.stdout.write(output.text);
  };
  const readInput = async () => {
    if (flags.trace !== undefined) await checkOutputPath(flags.trace, '--trace');
    return readPrompt(flags.prompt);
  };
  const { model, result } = await runEngine(
    flags,
    readInput,
    async (page, model, prompt) => ({
      model,
      result: await page.generate(getRequest(flags, prompt, model.hasChatTemplate)),
    }),
    onOutput,
  );
  if (flags.trace !== undefined) await writeTrace(flags.trace, model, routes);
  if (flags.json) process.stdout.write(`${JSON.stringify(result)}\n`);
  else process.stdout.write(streams ? '\n' : `${result.text}\n`);
  return 0;
}

type Prompt =
  | Exclude<PromptFlag, { kind: 'messagesFile' }>
  | { readonly kind: 'messages'; readonly messages: readonly ChatMessage[] };

function getRequest(flags: GenerateFlags, prompt: Prompt, hasChatTemplate: boolean): GenerateRequest {
  const { maxTokens, sampling, stop, ignoreEos, paging, draft, topLogprobs, trace } = flags;
  return {
    ...getPrompt(prompt, hasChatTemplate),
    maxTokens,
    sampling,
    stop,
    ignoreEos,
    paging,
    draft,
    trace: trace !== undefined,
    ...(topLogprobs === undefined ? {} : { topLogprobs }),
  };
}

/** A text becomes one user message where the model has a chat template, unless `raw`. */
function getPrompt(prompt: Prompt, hasChatTemplate: boolean): GenerateRequest {
  if (prompt.kind === 'tokenIds') return { tokenIds: prompt.tokenIds };
  if (prompt.kind === 'messages') return { messages: prompt.messages };
  if (prompt.raw || !hasChatTemplate) return { prompt: prompt.text };
  return { messages: [{ role: 'user', content: prompt.text }] };
}

async function readPrompt(flag: PromptFlag): Promise<Prompt> {
  if (flag.kind !== 'messagesFile') return flag;
  const refuse = (why: string, cause?: unknown) =>
    new ToolError(
      'BAD_ARGUMENT',
      `--messages is "${flag.path}": ${why}; it must hold a list like [{"role": "user", "content": "Hello"}]`,
      { cause },
    );
  let value: unknown;
  try {
    value = JSON.parse(await readFile(flag.path, 'utf8'));
  } catch (cause) {
    throw refuse((cause as Error).message, cause);
  }
  if (!Array.isArray(value) || value.length === 0) throw refuse('it is not a list with at least one message');
  const wrong = value.findIndex((message) => !isChatMessage(message));
  if (wrong >= 0) throw refuse(`message ${wrong} needs a role (system, user or assistant) and a content that is text`);
  return { kind: 'messages', messages: value.map(({ role, content }: ChatMessage) => ({ role, content })) };
}
