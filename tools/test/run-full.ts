/** `npm run test:full`: the tests of `npm test` with every property at its full count. */
import { runSuites } from './run.ts';

export function run(args: string[]): Promise<number> {
  return runSuites(args, 'full');
}
