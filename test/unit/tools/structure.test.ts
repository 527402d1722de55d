import { expect, test } from 'vitest';
import {
  checkFileNames,
  checkFirstComments,
  checkLengths,
  checkMachinePaths,
  maxLines,
} from '../../../tools/structure/files.ts';
import { checkCycles, checkLayers, checkOnlyIn } from '../../../tools/structure/layers.ts';
import { checkShaders } from '../../../tools/structure/shaders.ts';
import { getCode, getSpecifiers, type Violation } from '../../../tools/structure/source-file.ts';

/** A made-up tree: path -> text. */
function tree(texts: Record<string, string>) {
  return Object.entries(texts).map(([path, text]) => ({ path, text }));
}

function where(violations: readonly Violation[]): string[] {
  return violations.map(({ path }) => path);
}

test('an import from a later layer is found, in each form an import has', () => {
  const later = { 'src/engine/engine.ts': '', 'src/text/ok.ts': "import '../errors'", 'src/errors.ts': '' };
  for (const text of [
    "import { a } from '../engine/engine';",
    "import type {\n  A,\n} from '../engine/engine';",
    "export * from '../engine/engine';",
    "import '../engine/engine';",
    "const a = await import('../engine/engine');",
    "new Worker(new URL('../engine/engine.ts', import.meta.url))",
  ]) {
    expect(where(checkLayers(tree({ ...later, 'src/gpu/bad.ts': text }))), text).toEqual(['src/gpu/bad.ts']);
  }
});

test('an import in a comment or a string is none', () => {
  const texts = {
    'src/engine/engine.ts': '',
    'src/gpu/a.ts': "// import '../engine/engine'\n/* from '../engine/engine' */",
  };
  expect(checkLayers(tree(texts))).toEqual([]);
  expect(getCode("const url = 'http://x'; // note")).toBe("const url = 'http://x'; ");
  expect(getSpecifiers("const a = `\nimport 'x'`;")).toEqual([]);
});

test('an unknown layer, a missing file and a shader imported outside kernels are found', () => {
  expect(where(checkLayers(tree({ 'src/extra/a.ts': '' })))).toEqual(['src/extra/a.ts']);
  expect(where(checkLayers(tree({ 'src/gpu/a.ts': "import './gone'" })))).toEqual(['src/gpu/a.ts']);
  const shader = { 'shaders/a.wgsl': '' };
  const text = "import source from '../../shaders/a.wgsl?raw'";
  expect(checkLayers(tree({ ...shader, 'src/kernels/a.ts': text }))).toEqual([]);
  expect(where(checkLayers(tree({ ...shader, 'src/model/a.ts': text })))).toEqual(['src/model/a.ts']);
});

test('an import cycle is reported once', () => {
  const files = tree({
    'src/a.ts': "import './b'",
    'src/b.ts': "import './c'",
    'src/c.ts': "import './a'",
    'src/d.ts': "import './a'",
  });
  expect(checkCycles(files).map(({ message }) => message)).toEqual([
    'import cycle: src/a.ts -> src/b.ts -> src/c.ts -> src/a.ts',
  ]);
});

test('what belongs to one layer is found in another', () => {
  for (const [layer, text] of [
    ['model', 'device.createBuffer({})'],
    ['engine', 'navigator.gpu.requestAdapter()'],
    ['checkpoint', 'await fetch(url)'],
    ['engine', 'globalThis.fetch(url)'],
    ['experts', "import { get } from 'idb-keyval'"],
    ['engine', "import { wrap } from 'comlink'"],
    ['model', 'let a: GPUBuffer;'],
  ] as const) {
    expect(where(checkOnlyIn(tree({ [`src/${layer}/a.ts`]: text }))), text).toEqual([`src/${layer}/a.ts`]);
  }
  const allowed = {
    'src/store/a.ts': 'fetch(url)',
    'src/gpu/a.ts': 'device.createBuffer({})',
    'src/model/a.ts': '// no GPUBuffer',
  };
  expect(checkOnlyIn(tree({ ...allowed, 'src/engine/a.ts': 'pager.prefetch(1); this.#fetch(2);' }))).toEqual([]);
});

test('names that say nothing, long files and missing first comments are found', () => {
  expect(where(checkFileNames(tree({ 'src/gpu/utils.ts': '', 'src/helpers/a.ts': '', 'demo/main.tsx': '' })))).toEqual([
    'src/gpu/utils.ts',
    'src/helpers/a.ts',
  ]);
  const long = tree({
    'src/a.ts': 'x\n'.repeat(maxLines + 1),
    'src/b.ts': 'x\n'.repeat(maxLines),
    'docs/a.md': 'x\n'.repeat(999),
  });
  expect(where(checkLengths(long))).toEqual(['src/a.ts']);
  expect(where(checkLengths(long, { 'src/a.ts': 'a table', 'src/gone.ts': 'old' }))).toEqual(['src/gone.ts']);
  expect(where(checkFirstComments(tree({ 'src/a.ts': 'let a', 'src/b.ts': '/** b */' })))).toEqual(['src/a.ts']);
});

test('a shader without twin, test or an entry point of its name is found', () => {
  const whole = {
    'shaders/row_sum.wgsl': '@compute @workgroup_size(64, 1, 1)\nfn row_sum() {}',
    'src/kernels/row-sum.ts': "import source from '../../shaders/row_sum.wgsl?raw';",
    'test/gpu/row-sum.test.ts': '',
  };
  expect(checkShaders(tree(whole))).toEqual([]);
  for (const path of ['src/kernels/row-sum.ts', 'test/gpu/row-sum.test.ts'] as const) {
    const { [path]: _, ...rest } = whole;
    expect(where(checkShaders(tree(rest))), path).toEqual(['shaders/row_sum.wgsl']);
  }
  const misnamed = { ...whole, 'shaders/row_sum.wgsl': '@compute @workgroup_size(64) fn main() {}' };
  expect(where(checkShaders(tree(misnamed)))).toEqual(['shaders/row_sum.wgsl']);
  expect(where(checkShaders(tree({ 'shaders/lib/a.wgsl': '@compute @workgroup_size(1) fn a() {}' })))).toEqual([
    'shaders/lib/a.wgsl',
  ]);
});

test('a path of one machine is found, a web address is not', () => {
  expect(where(checkMachinePaths(tree({ 'a.md': 'see /home/me/x' })))).toEqual(['a.md']);
  expect(checkMachinePaths(tree({ 'a.md': 'https://example.org/home/x, src/work/a.ts, ./root/a' }))).toEqual([]);
});
