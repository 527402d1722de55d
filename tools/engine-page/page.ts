/**
 * The page behind the commands that run the engine: calls through the public client, reported to the command.
 * Never reads a flag or a file.
 */
import type { GenerateRequest, GenerateResult, LoadProgress } from '../../src/engine/engine.ts';
import { createEngine } from '../../src/index.ts';
import type { PageOutcome, PageReport } from './protocol.ts';

const engine = createEngine();

window.webmoeCalls = {
  load: (modelUrl, options) => settle(engine.load({ kind: 'url', url: modelUrl }, options, reportProgress())),
  generate: (request) => settle(generate(request)),
  score: (request) => settle(engine.score(request)),
};

async function settle<T>(call: Promise<T>): Promise<PageOutcome<T>> {
  try {
    return { ok: true, result: await call };
  } catch (error) {
    const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'INTERNAL';
    return { ok: false, code, message: error instanceof Error ? error.message : String(error) };
  }
}

async function generate(request: GenerateRequest): Promise<GenerateResult> {
  for await (const event of engine.generate(request)) {
    if (event.type === 'token' && event.text !== '') await report({ kind: 'text', text: event.text });
    if (event.type === 'warning') await report({ kind: 'warning', message: event.message });
    if (event.type === 'routes') await report({ kind: 'routes', entries: event.entries });
    if (event.type === 'done') return event.result;
  }
  throw new Error('the engine ended the stream without a result');
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
