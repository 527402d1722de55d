/**
 * The page behind `npm run generate`: one load and one generation through the public client, reported to the command.
 * Never reads a flag or a file.
 */
import type { GenerateRequest, LoadProgress } from '../../src/engine/engine.ts';
import { createEngine } from '../../src/index.ts';
import type { PageOutcome, PagePrompt, PageReport, PageRequest } from './protocol.ts';

window.webmoeGenerate = async (request) => {
  try {
    return { ok: true, result: await generate(request) };
  } catch (error) {
    return getFailure(error);
  }
};

async function generate(request: PageRequest) {
  const engine = createEngine();
  try {
    const model = await engine.load(
      { kind: 'url', url: new URL(request.modelUrl, location.href).href },
      {
        expertBudget: request.expertBudget,
        ...(request.store === undefined ? {} : { store: request.store }),
        ...(request.contextLength === undefined ? {} : { contextLength: request.contextLength }),
      },
      reportProgress(),
    );
    const events = engine.generate({
      ...getPrompt(request.prompt, model.hasChatTemplate),
      maxTokens: request.maxTokens,
      sampling: request.sampling,
      stop: request.stop,
      ignoreEos: request.ignoreEos,
      ...(request.topLogprobs === undefined ? {} : { topLogprobs: request.topLogprobs }),
    });
    for await (const event of events) {
      if (event.type === 'token' && event.text !== '') await report({ kind: 'text', text: event.text });
      if (event.type === 'done') return event.result;
    }
    throw new Error('the engine ended the stream without a result');
  } finally {
    await engine.unload();
  }
}

function getPrompt(prompt: PagePrompt, hasChatTemplate: boolean): GenerateRequest {
  if (prompt.kind === 'tokenIds') return { tokenIds: prompt.tokenIds };
  if (prompt.kind === 'messages') return { messages: prompt.messages };
  if (prompt.raw || !hasChatTemplate) return { prompt: prompt.text };
  return { messages: [{ role: 'user', content: prompt.text }] };
}

/** Warnings as they come; of each phase of loading its start. */
function reportProgress(): (progress: LoadProgress) => void {
  let phase = '';
  return (progress) => {
    if (progress.phase === 'warning') {
      void report({ kind: 'warning', message: progress.message });
    } else if (progress.phase !== phase) {
      phase = progress.phase;
      const size = 'totalBytes' in progress ? `${progress.totalBytes} bytes` : `${progress.total} kernels`;
      void report({ kind: 'progress', message: `${phase}: ${size}` });
    }
  };
}

async function report(message: PageReport): Promise<void> {
  await window.webmoeReport?.(message);
}

function getFailure(error: unknown): PageOutcome {
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'INTERNAL';
  const message = error instanceof Error ? error.message : String(error);
  return { ok: false, code, message };
}
