/** Whatever was thrown, as the EngineError that the page shows. */
import { EngineError } from '../src/index';

export function asEngineError(thrown: unknown): EngineError {
  if (thrown instanceof EngineError) return thrown;
  return new EngineError('INTERNAL', thrown instanceof Error ? thrown.message : String(thrown), { cause: thrown });
}
