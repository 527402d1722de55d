/** A real worker with a scripted engine; a prompt says how it shall behave. */
import type { Endpoint } from 'comlink';
import type { GenerateEvent } from '../../../src/engine/engine';
import { EngineError } from '../../../src/errors';
import { exposeEngine } from '../../../src/worker/expose';
import { ScriptedEngine, scriptedModel, scriptedResult, sleep, tokenEvent } from '../../unit/worker/scripted-engine';

async function* generate(prompt: string, signal?: AbortSignal): AsyncGenerator<GenerateEvent> {
  if (prompt === 'count') {
    for (let index = 0; index < 5; index++) {
      await sleep(5, signal);
      yield tokenEvent(index, `${index} `);
    }
    yield { type: 'done', result: scriptedResult };
    return;
  }
  yield tokenEvent(0, 'alive');
  await sleep(20, signal);
  if (prompt === 'throw outside') setTimeout(() => throwUncaught());
  if (prompt === 'close') (globalThis as unknown as { close(): void }).close();
  if (prompt === 'spin') for (;;);
  for (let index = 1; ; index++) {
    await sleep(5, signal);
    yield tokenEvent(index, `${index} `);
  }
}

function throwUncaught(): never {
  throw new RangeError('thrown outside of any call');
}

const engine = new ScriptedEngine({
  generate: (request, signal) => generate(request.prompt ?? '', signal),
  load: async (source, options) => {
    if (source.kind === 'folder') throw new EngineError('UNSUPPORTED', 'a folder is not in the script');
    if (options?.forecast) throw new EngineError('NETWORK', JSON.stringify(options.forecast));
    if (source.kind === 'url')
      throw new EngineError('NETWORK', source.url, { cause: new TypeError('Failed to fetch') });
    return { ...scriptedModel, name: `${source.name}: ${await new Response(source.file as Blob).text()}` };
  },
  listModels: () => new Promise(() => {}),
  unload: async () => {},
});
exposeEngine(engine, globalThis as unknown as Endpoint);
