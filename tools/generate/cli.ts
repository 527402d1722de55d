/**
 * `npm run generate`: one generation in headless Chromium, by the flags that README.md lists.
 * Owns stdout: the text, or with `--json` one object; everything else goes to stderr.
 */
import { readFile, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { ChatMessage } from '../../src/engine/engine.ts';
import { root } from '../program.ts';
import { ToolError } from '../tool-error.ts';
import { runInBrowser } from './browser-page.ts';
import { type GenerateFlags, type PromptFlag, parseGenerateFlags } from './flags.ts';
import { getModelRoute, servePage } from './page-server.ts';
import type { PagePrompt, PageReport, PageRequest } from './protocol.ts';

export async function run(args: string[]): Promise<number> {
  const flags = parseGenerateFlags(args);
  const interrupt = watchSignals();
  const model = await findModel(flags.model);
  const request = getPageRequest(flags, model.url, await readPrompt(flags.prompt));
  const server = await servePage(model.file);
  // On a terminal the text appears as it is made; elsewhere at the end, so that an error leaves stdout empty.
  const streams = process.stdout.isTTY && !flags.json;
  try {
    const outcome = await runInBrowser(request, {
      port: server.port,
      ...(flags.profile === undefined ? {} : { profile: resolve(flags.profile) }),
      chromeArgs: flags.chromeArgs,
      onReport: (report) => showReport(report, streams),
      signal: interrupt,
    });
    if (!outcome.ok) throw new ToolError(outcome.code, outcome.message);
    const { result } = outcome;
    if (flags.json) process.stdout.write(`${JSON.stringify(result)}\n`);
    else process.stdout.write(streams ? '\n' : `${result.text}\n`);
    return 0;
  } finally {
    await server.close();
  }
}

function getPageRequest(flags: GenerateFlags, modelUrl: string, prompt: PagePrompt): PageRequest {
  const { expertBudget, store, contextLength, maxTokens, sampling, stop, ignoreEos, topLogprobs } = flags;
  return {
    modelUrl,
    expertBudget,
    prompt,
    maxTokens,
    sampling,
    stop,
    ignoreEos,
    ...(store === undefined ? {} : { store }),
    ...(contextLength === undefined ? {} : { contextLength }),
    ...(topLogprobs === undefined ? {} : { topLogprobs }),
  };
}

function showReport(report: PageReport, streams: boolean): void {
  if (report.kind !== 'text') console.error(`${report.kind === 'warning' ? 'warning: ' : ''}${report.message}`);
  else if (streams) process.stdout.write(report.text);
}

function watchSignals(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => controller.abort(new ToolError('ABORTED', `stopped by ${signal}`)));
  }
  return controller.signal;
}

interface FoundModel {
  /** As the page asks for it: absolute, or a path on the page's own server. */
  readonly url: string;
  readonly file?: { readonly route: string; readonly path: string };
}

async function findModel(model: string | undefined): Promise<FoundModel> {
  if (model !== undefined && /^https?:\/\//i.test(model)) {
    if (!URL.canParse(model)) throw new ToolError('BAD_ARGUMENT', `--model is "${model}", which is no URL; correct it`);
    return { url: model };
  }
  const path = model === undefined ? await findEmbeddedModel() : resolve(model);
  const found = await stat(path).catch(() => undefined);
  if (!found)
    throw new ToolError('BAD_ARGUMENT', `--model is "${path}", which does not exist; give a GGUF file or a URL`);
  if (found.isDirectory()) {
    throw new ToolError(
      'UNSUPPORTED',
      `--model is the folder "${path}"; this version reads GGUF files, so name one in it`,
    );
  }
  const route = getModelRoute(basename(path));
  return { url: route, file: { route, path } };
}

async function findEmbeddedModel(): Promise<string> {
  const folder = join(root, 'public');
  const { url } = JSON.parse(await readFile(join(folder, 'models', 'default.json'), 'utf8'));
  return join(folder, url);
}

async function readPrompt(flag: PromptFlag): Promise<PagePrompt> {
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
  const wrong = value.findIndex((message) => !isMessage(message));
  if (wrong >= 0) throw refuse(`message ${wrong} needs a role (system, user or assistant) and a content that is text`);
  return { kind: 'messages', messages: value.map(({ role, content }: ChatMessage) => ({ role, content })) };
}

function isMessage(value: unknown): value is ChatMessage {
  if (typeof value !== 'object' || value === null) return false;
  const { role, content } = value as Partial<Record<keyof ChatMessage, unknown>>;
  return (role === 'system' || role === 'user' || role === 'assistant') && typeof content === 'string';
}
