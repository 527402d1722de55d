/**
 * Rules about kernels: every shader has a twin in src/kernels/, a test, and an entry point with its own name.
 * Pure functions over a list of files.
 */
import { getCode, type SourceFile, type Violation } from './source-file.ts';

/** `@compute @workgroup_size(…) fn name`, with attributes in any order before `fn`. */
const entryPoint = /@compute\b[^{};]*?\bfn\s+(\w+)/g;

/** Files directly in shaders/ are kernels; those in shaders/lib/ are snippets and have no entry point. */
export function checkShaders(files: readonly SourceFile[]): Violation[] {
  const paths = new Set(files.map(({ path }) => path));
  return files.flatMap(({ path, text }) => {
    const parts = /^shaders\/(.+\/)?([^/]+)\.wgsl$/.exec(path);
    if (!parts) return [];
    const [, folder, stem = ''] = parts;
    const names = Array.from(getCode(text).matchAll(entryPoint), (match) => match[1] ?? '');
    if (folder) return names.map((name) => ({ path, message: `has the entry point ${name}; snippets have none` }));
    const dashed = stem.replaceAll('_', '-');
    const violations: Violation[] = [];
    if (!/^[a-z0-9_]+$/.test(stem)) violations.push({ path, message: 'is not named in lower case with underscores' });
    if (names.length !== 1 || names[0] !== stem) {
      violations.push({ path, message: `has entry points [${names.join(', ')}], not exactly one named ${stem}` });
    }
    for (const twin of [`src/kernels/${dashed}.ts`, `test/gpu/${dashed}.test.ts`]) {
      if (!paths.has(twin)) violations.push({ path, message: `has no ${twin}` });
    }
    const twin = files.find((file) => file.path === `src/kernels/${dashed}.ts`);
    if (twin && !twin.text.includes(`'${stem}'`) && !twin.text.includes(`${stem}.wgsl`)) {
      violations.push({ path: twin.path, message: `does not name its shader ${stem}` });
    }
    return violations;
  });
}
