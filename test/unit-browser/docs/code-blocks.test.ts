/** Every code block of README.md and docs/ runs as it is written, on the default model; those of a page one after the other. */
import * as ai from 'ai';
import { afterEach, describe, expect, it } from 'vitest';
import * as sdk from '../../../src/entries/ai-sdk';
import * as inspect from '../../../src/entries/inspect';
import * as webmoe from '../../../src/index';

const texts = {
  ...import.meta.glob<string>('../../../README.md', { query: '?raw', import: 'default', eager: true }),
  ...import.meta.glob<string>('../../../docs/**/*.md', { query: '?raw', import: 'default', eager: true }),
};

const engines: webmoe.RemoteEngine[] = [];
afterEach(() => {
  for (const engine of engines.splice(0)) engine.terminate();
});

/** What a block can import. */
const modules: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  ai,
  webmoe: {
    ...webmoe,
    createEngine: (options?: webmoe.RemoteEngineOptions) => {
      const engine = webmoe.createEngine(options);
      engines.push(engine);
      return engine;
    },
  },
  'webmoe/ai-sdk': { ...sdk },
  'webmoe/inspect': { ...inspect },
};

interface Page {
  readonly name: string;
  readonly blocks: readonly string[];
}

const pages: Page[] = Object.entries(texts).flatMap(([path, text]) => {
  const blocks = [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, code]) => code as string);
  return blocks.length > 0 ? [{ name: path.split('/').at(-1) as string, blocks }] : [];
});

/** Runs a page's blocks in one scope, as someone who follows it does. @returns what was shown. */
async function run({ blocks }: Page): Promise<unknown[]> {
  const shown: unknown[] = [];
  const scope: Record<string, unknown> = { show: (...values: unknown[]) => shown.push(...values) };
  const code = blocks.join('\n').replaceAll(/^import \{ ([^}]+) \} from '([^']+)';$/gm, (_, names, from) => {
    for (const name of (names as string).split(', ')) {
      expect(Object.keys(modules[from as string] ?? {}), `${from} has ${name}`).toContain(name);
      scope[name] = modules[from as string]?.[name];
    }
    return '';
  });
  const AsyncFunction = (async () => {}).constructor as new (
    ...parts: string[]
  ) => (...args: unknown[]) => Promise<void>;
  await new AsyncFunction(...Object.keys(scope), code)(...Object.values(scope));
  return shown;
}

describe('the code blocks of', () => {
  it('the docs are found', () => {
    expect(pages.map(({ name }) => name)).toEqual(
      expect.arrayContaining([
        'README.md',
        'ai-sdk.md',
        'budget.md',
        'embed.md',
        'privacy-and-storage.md',
        'troubleshooting.md',
      ]),
    );
  });

  it.each(pages)('$name run', async (page) => {
    expect(await run(page)).not.toEqual([]);
  });
});
