/** Lets XGrammar's browser build start in Node, where its module has neither a script's names nor a page's. */
import { createRequire } from 'node:module';

Object.assign(globalThis, {
  require: createRequire(import.meta.url),
  __filename: import.meta.filename,
  __dirname: import.meta.dirname,
});
