import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { resolveAddress } from '../../../demo/model-address';

const PAGE = 'http://192.168.0.7:8080/demo/';

/** Whether the page's policy lets its scripts ask an address. */
function allows(address: string): boolean {
  const html = readFileSync(new URL('../../../demo/index.html', import.meta.url), 'utf8');
  const sources = /connect-src ([^;]+);/.exec(html)?.[1]?.split(' ') ?? [];
  expect(sources.length).toBeGreaterThan(0);
  const { protocol, hostname, origin } = new URL(address);
  return sources.some((source) => {
    if (source === "'self'") return origin === new URL(PAGE).origin;
    if (source.endsWith(':*')) return source.startsWith(`${protocol}//${hostname}:`);
    return source === protocol;
  });
}

describe('the address of a model', () => {
  it.each([
    ['https://models.example/a.gguf', 'https://models.example/a.gguf'],
    ['models/a.gguf', 'http://192.168.0.7:8080/demo/models/a.gguf'],
    ['http://localhost:8000/folder/', 'http://localhost:8000/folder/'],
    ['http://localhost/a.gguf', 'http://localhost/a.gguf'],
    ['http://127.0.0.1:1234/a.gguf', 'http://127.0.0.1:1234/a.gguf'],
  ])('%s is one that the policy allows', (typed, whole) => {
    expect(resolveAddress(typed, PAGE)).toBe(whole);
    expect(allows(whole)).toBe(true);
  });

  it('may be a name on the hub', () => {
    expect(resolveAddress('hf:owner/name@main', PAGE)).toBe('hf:owner/name@main');
  });

  it.each([
    ['http://models.example/a.gguf', 'http://models.example'],
    ['http://192.168.0.7/a.gguf', 'http://192.168.0.7'],
    ['http://localhost.example/a.gguf', 'http://localhost.example'],
    ['http://[::1]:8000/a.gguf', 'http://[::1]:8000'],
    ['ftp://models.example/a.gguf', 'ftp:'],
    ['data:text/plain,GGUF', 'data:'],
    ['file:///models/a.gguf', 'file:'],
    ['C:\\models\\a.gguf', 'c:'],
  ])('%s is refused by name, with what to give instead, and the policy would refuse it', (typed, named) => {
    let thrown: unknown;
    try {
      resolveAddress(typed, PAGE);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining(`${named}, which this page's Content-Security-Policy does not let it ask`),
    });
    expect((thrown as Error).message).toContain('download the file and choose it');
    expect(allows(typed)).toBe(false);
  });

  it('that is none is refused', () => {
    expect(() => resolveAddress('http://', PAGE)).toThrowError(/"http:\/\/" is no address: give hf:owner\/name/);
  });
});
