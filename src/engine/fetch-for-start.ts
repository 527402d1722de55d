/**
 * How much of a model has to be there before it starts: the resident tensors, and all the rest where that takes no longer
 * than someone likes to wait. Owns that choice; store/ fetches.
 */
import type { OpenModel } from '../store/open-model';
import { isStorageFull } from '../store/storage-errors';

/** A download that takes longer than this at its present rate goes on behind the model instead of in front of it. */
const PATIENCE_MS = 4000;

/**
 * Fetches what a start needs.
 * @param startEarly true: the resident tensors alone; false: everything; undefined: everything if that is quick.
 * @returns whether there is something left to download behind the model.
 * @throws EngineError; a full store stops nothing: what has no room is read from its source.
 */
export async function fetchForStart(
  model: OpenModel,
  startEarly: boolean | undefined,
  onWarning: (message: string) => void,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { records, plan } = model;
  try {
    await records.fill(
      plan.resident.map(({ key }) => key),
      signal,
    );
    return !(await finishIfQuick(model, startEarly, signal));
  } catch (error) {
    if (!isStorageFull(error)) throw error;
    onWarning(
      `${error.message}; the model runs all the same, and what is not stored is read from its source each time`,
    );
    return false;
  }
}

async function finishIfQuick(
  model: OpenModel,
  startEarly: boolean | undefined,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { records } = model;
  const isAllThere = records.listMissing().length === 0;
  const isQuick = records.isLocal || (records.getProgress().remainingMs ?? 0) <= PATIENCE_MS;
  if (startEarly === true && !isAllThere) return false;
  if (startEarly === undefined && !isQuick) return false;
  if (startEarly === false || records.isLocal) {
    await model.finish(signal);
    return true;
  }
  const patience = AbortSignal.timeout(2 * PATIENCE_MS);
  try {
    await model.finish(signal ? AbortSignal.any([signal, patience]) : patience);
    return true;
  } catch (error) {
    if (signal?.aborted || !patience.aborted) throw error;
    return false;
  }
}
