/**
 * The rules of the house, checked on the files git knows or would add. The rules themselves are in tools/structure/.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { expect, test } from 'vitest';
import { checkFileNames, checkFirstComments, checkLengths, checkMachinePaths } from '../tools/structure/files.ts';
import { checkCycles, checkLayers, checkOnlyIn } from '../tools/structure/layers.ts';
import { checkShaders } from '../tools/structure/shaders.ts';
import type { SourceFile, Violation } from '../tools/structure/source-file.ts';

const textFile = /(\.(ts|tsx|mjs|js|json|wgsl|py|css|html|md|txt|yml|yaml|sh)|(^|\/)[^./]+|\/\.[a-z]+|\.ci\/run)$/;

function readFiles(): SourceFile[] {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
  });
  return listed
    .split('\0')
    .filter((path) => path !== '' && textFile.test(path) && existsSync(path) && statSync(path).isFile())
    .map((path) => ({ path, text: readFileSync(path, 'utf8') }));
}

const files = readFiles();
const code = files.filter(({ path }) => /^(src|shaders)\//.test(path));

function show(violations: readonly Violation[]): string[] {
  return violations.map(({ path, message }) => `${path}: ${message}`);
}

test('the files are found', () => {
  expect(files.map(({ path }) => path)).toEqual(expect.arrayContaining(['src/errors.ts', 'package.json', '.ci/run']));
});

test('src/ imports only from its own and earlier layers', () => {
  expect(show(checkLayers(code))).toEqual([]);
});

test('there are no import cycles', () => {
  expect(show(checkCycles(files.filter(({ path }) => /\.(ts|tsx|mjs)$/.test(path))))).toEqual([]);
});

test('GPU objects, fetch, idb-keyval and comlink stay in their layers', () => {
  expect(show(checkOnlyIn(code))).toEqual([]);
});

test('no file has a name that says nothing', () => {
  expect(show(checkFileNames(files))).toEqual([]);
});

test('no file is too long', () => {
  expect(show(checkLengths(files))).toEqual([]);
});

test('every file begins by saying what it owns', () => {
  expect(show(checkFirstComments(files))).toEqual([]);
});

test('every shader has its twin, its test and its entry point', () => {
  expect(show(checkShaders(files))).toEqual([]);
});

test('no file mentions a path of one machine', () => {
  // The rules' own pattern and its tests spell such paths out.
  const others = files.filter(({ path }) => !path.includes('structure/') && !path.startsWith('test/unit/tools/'));
  expect(show(checkMachinePaths(others))).toEqual([]);
});
