/**
 * A command's run of the engine: finds the model, serves it beside the page, loads it there and hands the page over.
 * Owns what is shown meanwhile, all on stderr, and the end by a signal. Never writes to stdout.
 */
import { resolve } from 'node:path';
import type { LoadedModel } from '../../src/engine/engine.ts';
import { ToolError } from '../tool-error.ts';
import { type EnginePage, withEnginePage } from './browser-page.ts';
import type { EngineFlags } from './engine-flags.ts';
import { findModel } from './model-file.ts';
import { servePage } from './page-server.ts';
import type { PageReport } from './protocol.ts';

/** What comes out of a call while it runs. */
export type PageOutput = Extract<PageReport, { kind: 'text' | 'routes' }>;

/** `readInput` runs before anything is started, so that bad input fails quickly. */
export async function runEngine<I, T>(
  flags: EngineFlags,
  readInput: () => Promise<I>,
  use: (page: EnginePage, model: LoadedModel, input: I) => Promise<T>,
  onOutput: (output: PageOutput) => void = () => {},
): Promise<T> {
  const signal = watchSignals();
  const found = await findModel(flags.model);
  const input = await readInput();
  const server = await servePage(found.files);
  try {
    const options = {
      port: server.port,
      ...(flags.profile === undefined ? {} : { profile: resolve(flags.profile) }),
      chromeArgs: flags.chromeArgs,
      onReport: (report: PageReport) => {
        if (report.kind === 'text' || report.kind === 'routes') onOutput(report);
        else console.error(`${report.kind === 'warning' ? 'warning: ' : ''}${report.message}`);
      },
      signal,
    };
    return await withEnginePage(options, async (page) => {
      const { store, contextLength, expertBudget, eviction, quantize, kernels, kvType } = flags;
      const model = await page.load(found.url, {
        expertBudget,
        forecast: found.forecast,
        // A command's counters say what the model did, not how far the download happened to be.
        startEarly: false,
        ...(kvType === undefined ? {} : { kvType }),
        ...(kernels === undefined ? {} : { kernels }),
        ...(quantize === undefined ? {} : { quantize }),
        ...(store === undefined ? {} : { store }),
        ...(eviction === undefined ? {} : { eviction }),
        ...(contextLength === undefined ? {} : { contextLength }),
      });
      for (const [kind, { type, relativeRms }] of Object.entries(model.quantization ?? {})) {
        console.error(`${kind}: ${type}, relative error ${relativeRms.toPrecision(3)} (root mean square)`);
      }
      return use(page, model, input);
    });
  } finally {
    await server.close();
  }
}

/** Aborts, once and with the reason, when this process is asked to end. */
export function watchSignals(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => controller.abort(new ToolError('ABORTED', `stopped by ${signal}`)));
  }
  return controller.signal;
}
