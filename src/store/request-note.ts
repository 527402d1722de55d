/** Where a store notes which model a request led to. Owns names alone. */
import { computeDigest } from './record-digest';

/** Name of the state that holds the id of the model. */
export const REQUEST_STATE = 'model';

/** Under which the note is kept; it goes with the model. */
export async function getRequestId(request: string): Promise<string> {
  return `request-${(await computeDigest(new TextEncoder().encode(request))).slice(0, 32)}`;
}
