/**
 * What the structure rules look at: a file's path and text, and what its text imports.
 * Pure: never reads a disk.
 */
import { posix } from 'node:path';

export interface SourceFile {
  /** From the repository's root, with slashes. */
  readonly path: string;
  readonly text: string;
}

export interface Violation {
  readonly path: string;
  readonly message: string;
}

/** Code without comments; strings stay. Line breaks stay where they were. */
export function getCode(text: string): string {
  // Strings come first, so that the // of a URL in one is no comment.
  const pattern = /'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g;
  return text.replace(pattern, (part) => (part.startsWith('/') ? part.replace(/[^\n]/g, '') : part));
}

/** The specifiers of static and dynamic imports, re-exports and `new URL(…, import.meta.url)`. */
export function getSpecifiers(text: string): string[] {
  const code = getCode(text).replace(/`(?:[^`\\]|\\.)*`/g, '``');
  const patterns = [
    /(?:^|[;}\s])(?:import|export)\s[^'"`;]*?from\s*['"]([^'"]+)['"]/g,
    /(?:^|[;}\s])import\s*['"]([^'"]+)['"]/g,
    /\bimport\s*\(\s*['"]([^'"]+)['"]/g,
    /\bnew URL\(\s*['"](\.[^'"]+)['"]\s*,\s*import\.meta\.url/g,
  ];
  return patterns.flatMap((pattern) => Array.from(code.matchAll(pattern), (match) => match[1] ?? ''));
}

/** Path of the file that a relative specifier means, or undefined: a package, or a file that is not in `paths`. */
export function resolveSpecifier(from: string, specifier: string, paths: ReadonlySet<string>): string | undefined {
  if (!specifier.startsWith('.')) return undefined;
  const base = posix.join(posix.dirname(from), specifier.replace(/\?.*$/, ''));
  return [base, `${base}.ts`, `${base}.tsx`, `${base}/index.ts`].find((path) => paths.has(path));
}
