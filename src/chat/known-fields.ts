/** Refuses what is not supported by name: nothing that a caller asks for is ignored. */
import { EngineError } from '../errors';

/** @throws EngineError `UNSUPPORTED` for a member that is not known; one that is undefined or null says nothing. */
export function refuseOthers(value: object, known: ReadonlySet<string>, where: string): void {
  const other = Object.entries(value).find(([name, member]) => !known.has(name) && member != null);
  if (!other) return;
  throw new EngineError('UNSUPPORTED', `${where} has "${other[0]}", which webmoe does not support: leave it out`);
}
