import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { openHubFiles } from '../../../src/store/hub-files';
import { installModel } from '../../../src/store/install';
import { createMemorySource } from '../../../src/store/memory-source';
import { createMemoryStore } from '../../../src/store/memory-store';
import { createHubFile, type Hub, type HubRepository, hubCommit, startHub } from '../../hub/hub';

const golden = new URL('../../golden/e5k1-gqa-q4_0.gguf.gz', import.meta.url);
const file = new Uint8Array(gunzipSync(readFileSync(golden)));
const text = (content: string) => createHubFile(new TextEncoder().encode(content));

let hub: Hub | undefined;
afterEach(async () => {
  await hub?.close();
  hub = undefined;
});

async function start(repository: HubRepository, token?: string): Promise<string> {
  hub = await startHub({ repositories: { 'some/model': repository }, ...(token ? { token } : {}) });
  return hub.url;
}

describe('openHubFiles', () => {
  it('gives up a hub that says nothing after a second try, and ends at once when it is aborted', async () => {
    const silent = createServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const hubUrl = `http://127.0.0.1:${(silent.address() as AddressInfo).port}/`;
    try {
      const asked = openHubFiles('hf:some/model', { hubUrl, stallTimeoutMs: 200, retryDelaysMs: [1, 1, 1, 1] });
      await expect(asked).rejects.toMatchObject({ code: 'NETWORK', message: expect.stringMatching(/timeout/) });
      const controller = new AbortController();
      setTimeout(() => controller.abort(), 50);
      const aborted = openHubFiles('hf:some/model', { hubUrl, signal: controller.signal });
      await expect(aborted).rejects.toMatchObject({ code: 'ABORTED' });
    } finally {
      silent.close();
      silent.closeAllConnections();
    }
  });

  it('reads the one model file of a repository, of the commit that its revision is, byte for byte', async () => {
    const hubUrl = await start({ 'README.md': text('a model'), 'tiny.gguf': createHubFile(file) });
    const files = await openHubFiles('hf:some/model', { hubUrl });
    expect(files).toMatchObject({ name: `hf:some/model@${hubCommit}/tiny.gguf`, ggufPath: 'tiny.gguf' });
    const { manifest } = await installModel(files, createMemoryStore());
    const reference = await installModel(createMemorySource(file, 'tiny.gguf'), createMemoryStore());
    expect(manifest.digests).toEqual(reference.manifest.digests);
    expect(hub?.hubRequests.filter(({ path }) => path.includes('/resolve/')).map(({ path }) => path)).toEqual(
      hub?.requests.map(() => `/some/model/resolve/${hubCommit}/tiny.gguf`),
    );
    expect(await files.find('not-there.json')).toBeNull();
  });

  it.each([
    [['m-Q8_0.gguf', 'm-Q4_K_M.gguf', 'm-Q2_K.gguf'], 'm-Q4_K_M.gguf'],
    [['m-Q8_0.gguf', 'm.Q4_0.gguf', 'mmproj-Q4_0.gguf'], 'm.Q4_0.gguf'],
    [['Q4_0/m-00001-of-00002.gguf', 'Q4_0/m-00002-of-00002.gguf', 'm-BF16.gguf'], 'Q4_0/m-00001-of-00002.gguf'],
    [['large-odd.gguf', 'odd.gguf'], 'odd.gguf'],
  ])('of %j chooses %s, and says so', async (paths, chosen) => {
    const repository = Object.fromEntries(
      paths.map((path) => [path, createHubFile(new Uint8Array(path.startsWith('large') ? 99 : 9))]),
    );
    const warnings: string[] = [];
    const hubUrl = await start(repository);
    const files = await openHubFiles('hf:some/model@main', { hubUrl, onWarning: (message) => warnings.push(message) });
    expect(files.ggufPath).toBe(chosen);
    expect(warnings).toEqual([expect.stringContaining(`${chosen} is used`)]);
  });

  it('takes the file that is named, and a folder of safetensors where there is no GGUF file', async () => {
    const both = { 'a-Q4_0.gguf': text('a'), 'b-Q8_0.gguf': text('b') };
    let hubUrl = await start(both);
    expect((await openHubFiles('hf:some/model/b-Q8_0.gguf', { hubUrl })).ggufPath).toBe('b-Q8_0.gguf');
    await expect(openHubFiles('hf:some/model/c.gguf', { hubUrl })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringMatching(/no such model file; there is a-Q4_0\.gguf, b-Q8_0\.gguf/),
    });
    await hub?.close();
    hubUrl = await start({ 'config.json': text('{}'), 'model.safetensors': text('some weights') });
    const folder = await openHubFiles('hf:some/model', { hubUrl });
    expect(folder.ggufPath).toBeNull();
    expect((await folder.find('model.safetensors'))?.isRemote).toBe(true);
    await hub?.close();
    hubUrl = await start({ 'README.md': text('nothing') });
    await expect(openHubFiles('hf:some/model', { hubUrl })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
  });

  it('sends the token to the hub and to no one else, and says what is missing without one', async () => {
    const hubUrl = await start({ 'tiny.gguf': createHubFile(file) }, 'hf_secret');
    await expect(openHubFiles('hf:some/model', { hubUrl })).rejects.toMatchObject({
      code: 'NETWORK',
      message: expect.stringMatching(/private, gated or misspelt: give an access token/),
    });
    const files = await openHubFiles('hf:some/model', { hubUrl, accessToken: 'hf_secret' });
    expect((await files.find('tiny.gguf'))?.sizeBytes).toBe(file.byteLength);
    expect(hub?.requests.map(({ authorization }) => authorization)).toEqual([null]);
  });

  it('refuses what names no repository, and one that is not there', async () => {
    const hubUrl = await start({});
    for (const url of ['hf:', 'hf:model', 'hf:a b/c', 'hf:some/model@']) {
      await expect(openHubFiles(url, { hubUrl }), url).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    }
    await expect(openHubFiles('hf:some/other', { hubUrl })).rejects.toMatchObject({
      code: 'NETWORK',
      message: expect.stringMatching(/check the names of owner, repository and revision/),
    });
  });
});
