/**
 * A stranger's Vite app around the packed library: package.json, one page, one script, the tarball and Vite itself.
 * Owns its files; the app has no configuration beyond what README.md asks for, which is none.
 */
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GenerateRequest, GenerateResult, LoadedModel } from '../../src/engine/engine';
import { repositoryRoot, runToEnd } from './command';

/** What the page's script leaves on `globalThis.app`; README's code, with times. */
export interface AppState {
  readonly model?: LoadedModel;
  readonly tokens: readonly { readonly text: string; readonly atMs: number }[];
  readonly result?: GenerateResult;
  readonly error?: string;
}

const page = `<!doctype html>
<html lang="en">
  <head><meta charset="utf-8"><link rel="icon" href="data:,"><title>Fresh app</title></head>
  <body><output></output><script type="module" src="/main.ts"></script></body>
</html>
`;

const getScript = (request: GenerateRequest) => `import { createEngine, EngineError, type GenerateEvent } from 'webmoe';

const app: Record<string, unknown> & { tokens: unknown[] } = { tokens: [] };
Object.assign(globalThis, { app });
const output = document.querySelector('output')!;

async function chat() {
  const engine = createEngine();
  app.model = await engine.load(
    { kind: 'url', url: '/model.gguf' },
    { store: 'indexeddb', expertBudget: { percent: 50 } },
    (progress) => console.log(progress.phase),
  );
  for await (const event of engine.generate(${JSON.stringify(request)})) show(event);
}

function show(event: GenerateEvent) {
  if (event.type === 'token') {
    output.textContent += event.text;
    app.tokens.push({ text: event.text, atMs: performance.now() });
  }
  if (event.type === 'done') app.result = event.result;
}

chat().catch((error: unknown) => {
  app.error = error instanceof EngineError ? \`\${error.code}: \${error.message}\` : String(error);
});
`;

/** The other entries, for their types: declarations are read whole, those of libraries too. */
const entries = `import { createLocalEngine, type Engine, type EngineEnvironment } from 'webmoe/engine';
import { inspectModel, type MemoryPreview } from 'webmoe/inspect';

export const open = (environment: EngineEnvironment): Engine => createLocalEngine(environment);
export async function preview(url: string): Promise<MemoryPreview> {
  return (await inspectModel({ kind: 'url', url })).planMemory({ expertBudget: { percent: 50 } });
}
`;

const tsconfig = {
  compilerOptions: {
    target: 'ES2022',
    module: 'ESNext',
    moduleResolution: 'bundler',
    lib: ['ES2022', 'DOM', 'DOM.Iterable'],
    types: [],
    strict: true,
    skipLibCheck: false,
    noEmit: true,
  },
  files: ['main.ts', 'entries.ts'],
};

/** The file that `npm pack` makes of dist/ as `npm run build` left it. */
export async function packLibrary(folder: string): Promise<string> {
  const packed = await runToEnd('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder]);
  if (packed.status !== 0) throw new Error(`npm pack failed: ${packed.stderr}`);
  const [{ filename }] = JSON.parse(packed.stdout);
  return join(folder, filename);
}

/** Writes the app into `folder`, which is new, and installs the tarball and our version of Vite there. */
export async function createFreshApp(
  folder: string,
  { tarball, modelPath, request }: { tarball: string; modelPath: string; request: GenerateRequest },
): Promise<void> {
  await mkdir(join(folder, 'public'), { recursive: true });
  const files = {
    'package.json': JSON.stringify({ name: 'fresh-app', private: true, type: 'module' }),
    'index.html': page,
    'main.ts': getScript(request),
    'entries.ts': entries,
    'tsconfig.json': JSON.stringify(tsconfig),
  };
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  await copyFile(modelPath, join(folder, 'public', 'model.gguf'));
  const vite = JSON.parse(await readFile(join(repositoryRoot, 'node_modules/vite/package.json'), 'utf8')).version;
  const flags = ['--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];
  const installed = await runToEnd('npm', ['install', ...flags, tarball, `vite@${vite}`], {
    cwd: folder,
    limitMs: 180_000,
  });
  if (installed.status !== 0) throw new Error(`npm install failed (${installed.status}): ${installed.stderr}`);
}
