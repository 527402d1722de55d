/**
 * Makes the grammar engine's package a module of its own kind: as published it is a UMD script that asks for Node's modules in
 * the branch that runs in Node, and every bundler of an embedding app would say that browsers have none.
 * Owns the change; fails the build when the package no longer reads as it did.
 */
import type { Plugin } from 'vite';

const names = ['CompiledGrammar', 'Grammar', 'GrammarCompiler', 'GrammarMatcher', 'TokenizerInfo'];

/** Each is there exactly so many times. */
const changes: readonly (readonly [from: string, to: string, times: number])[] = [
  // In Node the same module, without an import for a bundler to resolve.
  ["await import('module')", "process.getBuiltinModule('module')", 1],
  // Only Node would take this branch; as a module the script has an address everywhere.
  [
    "typeof document === 'undefined' && typeof location === 'undefined' ? require('u' + 'rl').pathToFileURL(__filename).href :",
    "typeof document === 'undefined' && typeof location === 'undefined' ? 'file:' + '///' :",
    3,
  ],
];

export function browserXgrammar(): Plugin {
  return {
    name: 'webmoe-browser-xgrammar',
    enforce: 'pre',
    transform(code, id) {
      if (!id.includes('@mlc-ai/web-xgrammar/lib/index.js')) return undefined;
      let changed = code;
      for (const [from, to, times] of changes) {
        const parts = changed.split(from);
        if (parts.length !== times + 1) this.error(`"${from}" is ${parts.length - 1} times in ${id}, not ${times}`);
        changed = parts.join(to);
      }
      // One line before and one behind: the script finds what a CommonJS module has.
      return {
        code: `const exports = {}, module = { exports };${changed}\nexport const { ${names.join(', ')} } = exports;\n`,
        map: null,
      };
    },
  };
}
