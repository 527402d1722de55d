/**
 * Every fault of a hub in the middle of an install, on each kind of record. One that passes costs nothing but the request
 * that it met; one that stays is a coded error, and when the hub is well again the install goes on where it was.
 */
import { describe, expect, it } from 'vitest';
import { EngineError } from '../../../src/errors';
import { createHttpFiles } from '../../../src/store/http-files';
import type { HttpSourceOptions } from '../../../src/store/http-source';
import { openHubFiles } from '../../../src/store/hub-files';
import { installModel } from '../../../src/store/install';
import { listModels } from '../../../src/store/list-models';
import { createMemoryStore } from '../../../src/store/memory-store';
import { removeModel } from '../../../src/store/open-model';
import type { HubFault, HubFile } from '../../hub/hub';
import {
  createCountingStore,
  expectResumed,
  getWaits,
  install,
  large,
  lasting,
  type Moment,
  moments,
  passing,
  prepare,
  QUICK,
  script,
  silent,
  start,
  status,
  tiny,
} from './faulty-hub';

const isFull = Boolean(process.env.WEBMOE_FULL);
/** Nothing may take longer, whatever the hub does. */
const PATIENCE_MS = 30_000;

/** In npm test the moment that most of an install consists of; in test:full all. */
const tested = Object.keys(moments).filter((name) => isFull || name === 'a page');

describe.each(tested)('at %s', (moment) => {
  it.each(Object.entries(passing))('%s, once: the install is whole and right', async (_, fault) => {
    const { hub, url } = await start(tiny);
    const store = createCountingStore();
    const log = script({ hub, store, fixture: tiny, moment, fault, times: 1 });
    const { manifest, installed } = await install(url, store, tiny, getWaits(fault));
    expect(installed).toBe(true);
    expect(manifest.digests).toEqual(tiny.digests);
    expect(log.met).toBe(1);
    // No range was asked for three times, and of what went through nothing twice.
    const asked = new Map<string, number>();
    for (const { range } of hub.requests) {
      const key = JSON.stringify(range);
      asked.set(key, (asked.get(key) ?? 0) + 1);
    }
    const repeated = [...asked.values()].filter((count) => count > 1);
    // An impatient reader may give up more ranges than the one that stays out, on a machine with other work.
    expect(getWaits(fault) === QUICK ? repeated : [...new Set(repeated)]).toEqual([2]);
  });

  it.each(Object.entries(passing))(
    '%s, again and again: NETWORK, and it goes on when the hub is well',
    async (_, fault) => {
      const { hub, url } = await start(tiny);
      const store = createCountingStore();
      script({ hub, store, fixture: tiny, moment, fault, times: Number.POSITIVE_INFINITY });
      await expect(install(url, store, tiny, getWaits(fault))).rejects.toMatchObject({
        code: 'NETWORK',
        message: expect.stringMatching(/127\.0\.0\.1.*expected .*, got .*\(attempts: [24]\); check the connection/),
      });
      if (moment === 'a page') expect((await store.readDigests(tiny.plan.modelId)).size).toBeGreaterThan(0);
      await expectResumed(hub, url, store, tiny);
    },
  );
});

describe.each(tested.filter((name) => name !== 'the first request'))('at %s', (moment) => {
  it.each(Object.entries(lasting))(
    '%s: NETWORK at once, and it goes on when the hub is well',
    async (_, [fault, message]) => {
      const { hub, url } = await start(tiny);
      const store = createCountingStore();
      const log = script({ hub, store, fixture: tiny, moment, fault, times: 1 });
      await expect(install(url, store, tiny, getWaits(fault))).rejects.toMatchObject({
        code: 'NETWORK',
        message: expect.stringMatching(message),
      });
      expect(log.met).toBe(1);
      await expectResumed(hub, url, store, tiny);
    },
  );
});

describe('a file that is another one in the middle of its install', () => {
  const change = (bytes: Uint8Array, record: string): Uint8Array => {
    const other = bytes.slice();
    const { offsetBytes, lengthBytes } = tiny.plan.records.find(({ key }) => key === record)?.sourceRanges[0] ?? {
      offsetBytes: 0,
      lengthBytes: 0,
    };
    // Behind the bytes that the id of a model samples.
    const at = offsetBytes + Math.floor(lengthBytes / 2);
    other[at] = (other[at] ?? 0) ^ 1;
    return other;
  };

  it.each([
    ['with the same weights', (bytes: Uint8Array) => bytes],
    ['with another weight', (bytes: Uint8Array) => change(bytes, 'page/0/3')],
  ])('(its ETag changes) %s: NETWORK, and then it is installed anew and right, which is said', async (_, edit) => {
    const { hub, file, url } = await start(tiny);
    let seen = 0;
    let now = tiny.bytes;
    (file as { read: HubFile['read'] }).read = (offset, length) => now.subarray(offset, offset + length);
    hub.fault = (_request, _response, entry) => {
      if ((moments['a page'] as Moment)(entry, tiny) && ++seen === 3) {
        file.etag = '"second"';
        now = edit(tiny.bytes);
      }
      return false;
    };
    const store = createMemoryStore();
    await expect(install(url, store, tiny)).rejects.toMatchObject({
      code: 'NETWORK',
      message: expect.stringMatching(
        /changed while.*its ETag was "first" at first and is "second" now.*start the install again/,
      ),
    });
    hub.fault = () => false;
    const warnings: string[] = [];
    const { manifest } = await installModel(createHttpFiles(url, QUICK), store, {
      ...tiny.options,
      onWarning: (message) => warnings.push(message),
    });
    const whole = await prepare(now, {});
    expect(manifest.digests).toEqual(whole.digests);
    if (whole.plan.modelId === tiny.plan.modelId) expect(warnings).toEqual([expect.stringMatching(/begins anew/)]);
    else await removeModel(store, tiny.plan.modelId);
    expect(await listModels(store)).toMatchObject([{ modelId: whole.plan.modelId, storedShare: 1 }]);
  });
});

describe('a page that is kept in parts while it comes', () => {
  it.each(Object.entries(passing).slice(isFull ? 0 : 3, isFull ? undefined : 5))(
    'and %s: NETWORK, and no part that came is asked for again',
    async (_, fault) => {
      const { hub, url } = await start(large);
      let seen = 0;
      hub.fault = (request, response, entry) =>
        (moments['a page'] as Moment)(entry, large) && ++seen > 4 && fault(request, response, entry);
      const store = createMemoryStore();
      await expect(install(url, store, large, getWaits(fault))).rejects.toMatchObject({ code: 'NETWORK' });
      const kept = [...(await store.readDigests(large.plan.modelId)).keys()].filter((key) => key.startsWith('part/'));
      expect(kept.length).toBeGreaterThan(0);
      await expectResumed(hub, url, store, large);
    },
  );
});

describe('the hub itself, which redirects every request', () => {
  // A hub that says nothing, which takes seconds, is in npm test in hub-files.test.ts.
  const own = ['status 500', 'a connection that is reset', ...(isFull ? ['a hub that says nothing'] : [])].map(
    (name) => [name, passing[name] as HubFault] as const,
  );
  /** Two stalls end a question, and a machine with other work may make one of its own. */
  const getOwnWaits = (fault: HubFault): HttpSourceOptions => ({
    ...getWaits(fault),
    ...(fault === silent ? { stallTimeoutMs: 3000 } : {}),
  });

  it.each(own)('%s, once in the listing and once in the install: the install is whole and right', async (_, fault) => {
    const { hub } = await start(tiny);
    const met = new Set<number>();
    hub.hubFault = (request, response, entry) => {
      const at = hub.hubRequests.length;
      if (![1, 3, 30].includes(at)) return false;
      met.add(at);
      return fault(request, response, entry);
    };
    const files = await openHubFiles('hf:some/model', { hubUrl: hub.url, ...getOwnWaits(fault) });
    const { manifest } = await installModel(files, createMemoryStore(), tiny.options);
    expect(manifest.digests).toEqual(tiny.digests);
    expect([...met]).toEqual([1, 3, 30]);
  });

  it.each(own)('%s, again and again: NETWORK, and it goes on when the hub is well', async (_, fault) => {
    const { hub, url } = await start(tiny);
    const store = createMemoryStore();
    hub.hubFault = (request, response, entry) => hub.hubRequests.length > 30 && fault(request, response, entry);
    await expect(install(url, store, tiny, getWaits(fault))).rejects.toMatchObject({ code: 'NETWORK' });
    await expect(openHubFiles('hf:some/model', { hubUrl: hub.url, ...getOwnWaits(fault) })).rejects.toMatchObject({
      code: 'NETWORK',
    });
    hub.hubFault = () => false;
    await expectResumed(hub, url, store, tiny);
  });
});

it.runIf(isFull)('with the waits of a real page, every fault that stays is an error within 30 s', async () => {
  const slow500: HubFault = (request, response, entry) => {
    setTimeout(() => status(500)(request, response, entry), 11_500);
    return true;
  };
  const faults = { ...passing, 'status 500 after 11.5 s': slow500 };
  const times = await Promise.all(
    Object.entries(faults).map(async ([name, fault]) => {
      const { hub, url } = await start(tiny);
      const store = createCountingStore();
      script({ hub, store, fixture: tiny, moment: 'a page', fault, times: Number.POSITIVE_INFINITY });
      const startMs = performance.now();
      const error = await install(url, store, tiny, {}).catch((reason: unknown) => reason);
      expect(error, name).toBeInstanceOf(EngineError);
      expect(error, name).toMatchObject({ code: 'NETWORK' });
      return [name, performance.now() - startMs] as const;
    }),
  );
  for (const [name, ms] of times) expect(ms, name).toBeLessThan(PATIENCE_MS);
});
