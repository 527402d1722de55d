/**
 * Rules about who may import and call what inside src/. Pure functions over a list of files.
 */
import { getCode, getSpecifiers, resolveSpecifier, type SourceFile, type Violation } from './source-file.ts';

/** In the order data flows: a file imports only from its own or an earlier layer. */
export const layers = [
  'errors.ts',
  'aborts.ts',
  'gpu',
  'checkpoint',
  'store',
  'experts',
  'routing',
  'kernels',
  'model',
  'sampling',
  'drafting',
  'text',
  'engine',
  'chat',
  'worker',
  'client',
  'ai-sdk',
  'index.ts',
  'entries',
] as const;

/** What may be written in some layers only. `pattern` is looked for in code without comments. */
export const onlyIn: readonly {
  readonly what: string;
  readonly pattern: RegExp;
  readonly layers: readonly string[];
}[] = [
  { what: 'requestAdapter', pattern: /\brequestAdapter\b/, layers: ['gpu'] },
  { what: 'createBuffer', pattern: /\bcreateBuffer\b/, layers: ['gpu'] },
  { what: 'fetch(', pattern: /(?<![.#\w])(?:(?:globalThis|self|window)\s*\.\s*)?fetch\s*\(/, layers: ['store'] },
  { what: 'idb-keyval', pattern: /['"]idb-keyval['"]/, layers: ['store'] },
  { what: 'comlink', pattern: /['"]comlink['"]/, layers: ['worker', 'client'] },
];

/** Type names of WebGPU are kept out of these layers: they read like the paper. */
const withoutGpuNames = ['model'];

export function getLayer(path: string): string | undefined {
  const [top, name] = path.split('/');
  return top === 'src' ? name : undefined;
}

export function checkLayers(files: readonly SourceFile[]): Violation[] {
  const paths = new Set(files.map(({ path }) => path));
  const order = new Map<string, number>(layers.map((layer, index) => [layer, index]));
  return files.flatMap(({ path, text }) => {
    const layer = getLayer(path);
    if (layer === undefined) return [];
    const own = order.get(layer);
    if (own === undefined) return [{ path, message: `"${layer}" is no layer; layers are ${layers.join(', ')}` }];
    return getSpecifiers(text).flatMap((specifier) => {
      // The page starts the worker by its URL: that is a new program, not an import.
      const target = resolveSpecifier(path, specifier, paths);
      if (target === undefined) {
        const escapes = specifier.startsWith('.') && !/^(\.\.\/)+shaders\//.test(specifier);
        return escapes ? [{ path, message: `imports "${specifier}", which is no file of src/ or shaders/` }] : [];
      }
      if (target.startsWith('shaders/')) {
        return layer === 'kernels' ? [] : [{ path, message: `imports ${target}; only src/kernels/ imports shaders` }];
      }
      const other = order.get(getLayer(target) ?? '');
      if (other === undefined) return [{ path, message: `imports ${target}, which is outside src/` }];
      return other > own ? [{ path, message: `imports ${target} of a later layer` }] : [];
    });
  });
}

/** One violation per cycle, at its alphabetically first file. */
export function checkCycles(files: readonly SourceFile[]): Violation[] {
  const paths = new Set(files.map(({ path }) => path));
  const imports = new Map(
    files.map(({ path, text }) => [
      path,
      getSpecifiers(text).flatMap((specifier) => resolveSpecifier(path, specifier, paths) ?? []),
    ]),
  );
  const violations = new Map<string, Violation>();
  const done = new Set<string>();
  const trail: string[] = [];
  const visit = (path: string) => {
    const start = trail.indexOf(path);
    if (start >= 0) {
      const cycle = trail.slice(start);
      const first = cycle.indexOf([...cycle].sort()[0] ?? path);
      const turned = [...cycle.slice(first), ...cycle.slice(0, first)];
      const message = `import cycle: ${[...turned, turned[0]].join(' -> ')}`;
      violations.set(message, { path: turned[0] ?? path, message });
      return;
    }
    if (done.has(path)) return;
    trail.push(path);
    for (const target of imports.get(path) ?? []) visit(target);
    trail.pop();
    done.add(path);
  };
  for (const { path } of files) visit(path);
  return [...violations.values()];
}

export function checkOnlyIn(files: readonly SourceFile[]): Violation[] {
  return files.flatMap(({ path, text }) => {
    const layer = getLayer(path);
    if (layer === undefined) return [];
    const code = getCode(text);
    const misplaced = onlyIn.filter((rule) => !rule.layers.includes(layer) && rule.pattern.test(code));
    const violations = misplaced.map(({ what, layers: allowed }) => ({
      path,
      message: `has ${what}, which belongs only in ${allowed.map((name) => `src/${name}/`).join(' and ')}`,
    }));
    const gpuName = withoutGpuNames.includes(layer) ? /\bGPU[A-Z]\w*/.exec(code)?.[0] : undefined;
    if (gpuName) violations.push({ path, message: `names ${gpuName}; src/${layer}/ names no GPU* type` });
    return violations;
  });
}
