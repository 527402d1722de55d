/**
 * How far the tiny models are from their oracles: the largest difference of any logit, as a share of the largest logit.
 * ../golden/reached.json has what was measured in full; docs/architectures.md is made of it. A run holds what it finds
 * against that; with `WEBMOE_RECORD=1` (and `WEBMOE_FULL=1`) it writes it instead.
 */
import { expect } from 'vitest';
import { commands } from 'vitest/browser';
import reachedFile from '../golden/reached.json' with { type: 'json' };

/** `safetensors`: transformers on the folder of that model. `paper`: its formulas in PyTorch, likewise. */
export type Oracle = 'transformers' | 'safetensors' | 'llamaCpp' | 'paper';

const isRecording = Boolean(import.meta.env.WEBMOE_RECORD);

/** Largest difference of any logit, as a share of the largest logit. */
const TOLERANCE = 1e-3;
/** Another processor rounds otherwise: its compiler of shaders contracts other products and sums. */
const SLACK = 4;

const measured: Record<string, Partial<Record<Oracle, number>>> = {};

/** Checks one model's difference, or keeps it for `writeReached`. */
export function checkReached(model: string, oracle: Oracle, difference: number): void {
  console.log(`${model}, ${oracle}: ${difference.toExponential(1)} of the largest logit`);
  expect(difference, oracle).toBeLessThanOrEqual(TOLERANCE);
  if (isRecording) {
    measured[model] = { ...measured[model], [oracle]: Number(difference.toExponential(1)) };
    return;
  }
  const reached = (reachedFile as typeof measured)[model]?.[oracle];
  expect(reached, `${model}, ${oracle}: run with WEBMOE_FULL=1 WEBMOE_RECORD=1`).toBeDefined();
  expect(difference, `${oracle}: more than before`).toBeLessThanOrEqual(SLACK * (reached as number));
}

/** When recording, writes what was checked into reached.json, beside what it has of other models. */
export async function writeReached(): Promise<void> {
  if (!isRecording) return;
  const merged: typeof measured = { ...reachedFile };
  for (const [model, differences] of Object.entries(measured)) merged[model] = { ...merged[model], ...differences };
  const models = Object.entries(merged).sort(([a], [b]) => (a < b ? -1 : 1));
  const text = JSON.stringify(Object.fromEntries(models), null, 2);
  await commands.writeFile('test/golden/reached.json', `${text}\n`);
}
