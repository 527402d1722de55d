/**
 * Rules about files by themselves: their names, length, first comment, and what no file may mention.
 * Pure functions over a list of files.
 */
import type { SourceFile, Violation } from './source-file.ts';

const codeFolders = ['src/', 'shaders/', 'demo/', 'tools/'];
const codeFile = /\.(ts|tsx|mjs|wgsl|py|css|html)$/;
const forbiddenStems = ['utils', 'util', 'common', 'helpers', 'helper', 'manager', 'misc', 'main'];

export const maxLines = 400;

/** Longer files, each with its reason. */
export const longFiles: Readonly<Record<string, string>> = {};

function isCode(path: string): boolean {
  return codeFolders.some((folder) => path.startsWith(folder)) && codeFile.test(path);
}

/** Stems that say nothing; `main` is allowed in demo/, where it is the page's entry. */
export function checkFileNames(files: readonly SourceFile[]): Violation[] {
  return files.flatMap(({ path }) => {
    const stem = (path.split('/').at(-1) ?? '').split('.')[0] ?? '';
    const named = [stem, ...path.split('/').slice(0, -1)].find((part) => forbiddenStems.includes(part));
    if (named === undefined || (named === 'main' && path.startsWith('demo/'))) return [];
    return [{ path, message: `"${named}" says nothing about what it owns; name it after that` }];
  });
}

export function checkLengths(files: readonly SourceFile[], reasons = longFiles): Violation[] {
  const long = files.flatMap(({ path, text }) => {
    const lines = text.split('\n').length - (text.endsWith('\n') ? 1 : 0);
    if (!isCode(path) || lines <= maxLines || Object.hasOwn(reasons, path)) return [];
    return [{ path, message: `has ${lines} lines, more than ${maxLines}; split it, or give a reason in longFiles` }];
  });
  const paths = new Set(files.map(({ path }) => path));
  const gone = Object.keys(reasons).filter((path) => !paths.has(path));
  return [...long, ...gone.map((path) => ({ path, message: 'is in longFiles but does not exist; remove it there' }))];
}

export function checkFirstComments(files: readonly SourceFile[]): Violation[] {
  return files.flatMap(({ path, text }) => {
    if (!/^(src|shaders|tools|demo)\/.*\.(ts|tsx|mjs|wgsl)$/.test(path) || /^\s*\/[/*]/.test(text)) return [];
    return [{ path, message: 'does not begin with a comment that says what it owns' }];
  });
}

/** Folders of one machine. Web addresses are left alone: what stands before the slash tells them apart. */
const machinePath = /(?<![\w.:/@-])\/(?:work|root|home|farm)\/\w*/;

export function checkMachinePaths(files: readonly SourceFile[]): Violation[] {
  return files.flatMap(({ path, text }) => {
    const found = machinePath.exec(text);
    if (!found) return [];
    const line = text.slice(0, found.index).split('\n').length;
    return [{ path, message: `line ${line} has "${found[0]}", a path of one machine` }];
  });
}
