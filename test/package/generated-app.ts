/**
 * Apps as their usual generators make them, with the packed library and the code of README.md or docs/guides/embed.md in the
 * place of what was generated. Owns the list of generators and what is written into their apps, which is no configuration.
 */
import { copyFile, cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type Finished, repositoryRoot, runToEnd } from './command';

export interface AppKind {
  readonly name: string;
  /** Makes the app in the folder `app` of the current one, without its packages. */
  readonly generator: readonly string[];
  /** What replaces generated files, by path. */
  writeFiles(): Promise<Readonly<Record<string, string>>>;
  /** Programs of the app's own packages; a server takes any free port of 127.0.0.1. */
  readonly development: readonly string[];
  readonly builds: readonly {
    readonly name: string;
    readonly build: readonly string[];
    readonly serve: readonly string[];
  }[];
  /** Where a build's server finds the files of `public/`, if not there. */
  readonly builtPublic?: string;
  /** What its page complains of as it was generated, by text and address. */
  readonly complaints?: RegExp;
}

/** Code blocks of a page of ours, in order. */
async function readBlocks(page: string, language: string): Promise<string[]> {
  const text = await readFile(join(repositoryRoot, page), 'utf8');
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map(
    ([, code]) => code as string,
  );
}

/** README's ten lines; `show` is what a reader would put there. */
export async function readFirstLines(): Promise<string> {
  const [block] = await readBlocks('README.md', 'ts');
  const show = `const show = (text) => document.querySelector('output').append(text);`;
  return `document.body.append(document.createElement('output'));\n${show}\n${block}`;
}

async function readReactComponent(): Promise<string> {
  const [block] = await readBlocks('docs/guides/embed.md', 'tsx');
  if (!block) throw new Error('docs/guides/embed.md has no block of tsx');
  return block;
}

export const appKinds: readonly AppKind[] = [
  {
    name: 'Vite, vanilla',
    generator: ['create-vite@latest', 'app', '--template', 'vanilla', '--no-interactive'],
    writeFiles: async () => ({ 'src/main.js': await readFirstLines() }),
    development: ['vite', '--host', '127.0.0.1'],
    builds: [{ name: 'build', build: ['vite', 'build'], serve: ['vite', 'preview', '--host', '127.0.0.1'] }],
  },
  {
    name: 'Vite, React',
    generator: ['create-vite@latest', 'app', '--template', 'react-ts', '--no-interactive'],
    writeFiles: async () => ({ 'src/App.tsx': await readReactComponent() }),
    development: ['vite', '--host', '127.0.0.1'],
    builds: [{ name: 'build', build: ['vite', 'build'], serve: ['vite', 'preview', '--host', '127.0.0.1'] }],
  },
  {
    name: 'webpack',
    generator: ['create-webpack-app@latest', 'init', '-f', 'app'],
    writeFiles: async () => ({ 'src/index.js': await readFirstLines() }),
    development: ['webpack', 'serve', '--no-open', '--host', '127.0.0.1', '--port', 'auto'],
    builds: [
      {
        name: 'build',
        build: ['webpack', '--mode=production', '--config-node-env=production'],
        // The generator brings no server of what it builds.
        serve: [
          join(repositoryRoot, 'node_modules/vite/bin/vite.js'),
          'preview',
          '--outDir',
          'dist',
          '--host',
          '127.0.0.1',
        ],
      },
    ],
    builtPublic: 'dist',
    // Its page registers one that only the production build has.
    complaints: /service-worker|ServiceWorker|fetching the script/,
  },
  {
    name: 'Next',
    generator: [
      ...['create-next-app@latest', 'app', '--ts', '--app', '--empty', '--no-eslint', '--no-tailwind', '--no-src-dir'],
      ...['--import-alias', '@/*', '--use-npm', '--skip-install', '--disable-git', '--yes'],
    ],
    writeFiles: async () => ({ 'app/page.tsx': await readReactComponent() }),
    development: ['next', 'dev', '-H', '127.0.0.1', '-p', '0'],
    builds: [
      { name: 'build by Turbopack', build: ['next', 'build'], serve: ['next', 'start', '-H', '127.0.0.1', '-p', '0'] },
      {
        name: 'build by webpack',
        build: ['next', 'build', '--webpack'],
        serve: ['next', 'start', '-H', '127.0.0.1', '-p', '0'],
      },
    ],
  },
];

const npmFlags = ['--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];

/** What an app's own packages have to say, or ours. */
export function runInApp(app: string, [program = '', ...args]: readonly string[]): Promise<Finished> {
  return runToEnd('node', [findProgram(app, program), ...args], { cwd: app, limitMs: 300_000 });
}

/** A program of node_modules/.bin, or a path. */
export function findProgram(app: string, program: string): string {
  return program.startsWith('/') ? program : join(app, 'node_modules/.bin', program);
}

/** Runs the generator and installs what it names. @returns why the generator cannot be had, or null. */
export async function generateApp(folder: string, { generator }: AppKind): Promise<string | null> {
  await mkdir(folder, { recursive: true });
  const [npx, install] = [
    ['--yes', ...generator],
    ['install', ...npmFlags],
  ];
  const options = { limitMs: 300_000 };
  const made = await runToEnd('npx', npx, { ...options, cwd: folder });
  if (made.status !== 0) return `npx ${npx.join(' ')} ended with ${made.status}: ${made.lastLine}`;
  const installed = await runToEnd('npm', install, { ...options, cwd: join(folder, 'app') });
  return installed.status === 0 ? null : `npm install ended with ${installed.status}: ${installed.lastLine}`;
}

/** Adds the tarball, the model where README's code looks for it, and our code. */
export async function addLibrary(app: string, kind: AppKind, tarball: string, modelPath: string): Promise<void> {
  const installed = await runToEnd('npm', ['install', ...npmFlags, tarball], { cwd: app, limitMs: 180_000 });
  if (installed.status !== 0) throw new Error(`npm install failed (${installed.status}): ${installed.stderr}`);
  for (const [path, text] of Object.entries(await kind.writeFiles())) await writeFile(join(app, path), text);
  const model = join(app, 'public/models', basename(modelPath));
  await mkdir(dirname(model), { recursive: true });
  await copyFile(modelPath, model);
}

/** What a server of `public/` would do, where the build's server is another. */
export async function copyPublic(app: string, { builtPublic }: AppKind): Promise<void> {
  if (builtPublic) await cp(join(app, 'public'), join(app, builtPublic), { recursive: true });
}
