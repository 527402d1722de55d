/**
 * Several tokens by one submission, where every page is resident: no fault can stop them, so none needs the CPU before the next.
 * Owns how many that are; what runs is what a token alone runs, in the same order.
 */
import { countAcceptedRows } from '../drafting/acceptance';
import { assert } from '../errors';
import { Submission } from '../gpu/pass';
import { encodeWords, type UniformWord } from '../gpu/uniforms';
import { listChosen } from '../kernels/router-topk';
import { CONTROL, NO_FAULT } from '../model/run-state';
import { RecordLayout } from './pass-record';
import type { Runtime } from './runtime';

/**
 * Tokens of one submission.
 * @param wanted by the caller.
 * @param most that can be of use.
 */
export function getTokensPerSubmit({ pager, plan }: Runtime, wanted: number, most: number): number {
  return pager.isWhole ? Math.max(1, Math.min(wanted, most, plan.state.draftTokens)) : 1;
}

export interface ResidentRun {
  /** The given one and those sampled behind it, but for the last. */
  readonly tokenIds: Uint32Array;
  readonly sampledIds: Uint32Array;
  /** Up to the end of the text. */
  readonly acceptedRows: number;
  /** [moeLayers, tokens, expertsPerToken] */
  readonly routes: Uint32Array;
  readonly layersExecuted: number;
}

/** Feeds a token and those sampled behind it, one after another. The result is as of one pass whose guesses all held. */
export async function runResident(
  runtime: Runtime,
  tokenId: number,
  position: number,
  count: number,
  sampling: readonly UniformWord[],
  endIds: ReadonlySet<number>,
): Promise<ResidentRun> {
  const { device, state, pager, manifest, draft, sampling: samplingBuffer } = runtime;
  assert(pager.isWhole, 'every page is resident');
  device.handle.queue.writeBuffer(samplingBuffer, 0, encodeWords(sampling, 32));
  const submission = new Submission(device);
  draft.encodeExact(submission, tokenId, position, count);
  const layout = new RecordLayout(runtime, { rows: 0, logitRows: 0, draftTokens: count });
  const bytes = await submission.submitAndRead(layout.getParts(false), state.readback);
  const { control, draftedIds, draftRoutes } = layout.split(bytes, false);
  assert(control[CONTROL.faultLayer] === NO_FAULT, 'a page that is resident is found');
  const tokenIds = draftedIds.subarray(0, count);
  const sampledIds = draftedIds.subarray(1);
  const acceptedRows = countAcceptedRows(tokenIds, sampledIds, endIds);
  const layers = manifest.config.moeLayers.length;
  const routes = new Uint32Array(draftRoutes.length);
  const k = manifest.config.moe.expertsPerToken;
  for (let row = 0; row < count; row++) {
    for (let layer = 0; layer < layers; layer++) {
      const ids = draftRoutes.subarray((row * layers + layer) * k, (row * layers + layer + 1) * k);
      routes.set(ids, (layer * count + row) * k);
      if (row >= acceptedRows) continue;
      const experts = [...listChosen(ids)];
      pager.observe(layer, experts);
      pager.use(layer, experts);
    }
  }
  const layersExecuted = control[CONTROL.layersExecuted] as number;
  return { tokenIds, sampledIds, acceptedRows, routes, layersExecuted };
}
