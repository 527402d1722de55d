/**
 * Every fault of a hub in the middle of an install, on each kind of record. One that passes costs nothing but the request
 * that it met; one that stays is a coded error, and when the hub is well again the install goes on where it was.
 */

import type { ServerResponse } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { readGgufFile } from '../../../src/checkpoint/gguf';
import { buildInstallPlan, type InstallPlan } from '../../../src/checkpoint/install-plan';
import { EngineError } from '../../../src/errors';
import { createHttpFiles } from '../../../src/store/http-files';
import type { HttpSourceOptions } from '../../../src/store/http-source';
import { openHubFiles } from '../../../src/store/hub-files';
import { type InstallResult, installModel } from '../../../src/store/install';
import { listModels } from '../../../src/store/list-models';
import { createMemorySource } from '../../../src/store/memory-source';
import { createMemoryStore } from '../../../src/store/memory-store';
import type { ModelStore } from '../../../src/store/model-store';
import { type OpenModelOptions, removeModel } from '../../../src/store/open-model';
import { createHubFile, type Hub, type HubFault, type HubFile, type HubRequest, startHub } from '../../hub/hub';
import { type Entry, tinyOlmoe, writeTinyOlmoe } from '../checkpoint/gguf-writer';

const isFull = Boolean(process.env.WEBMOE_FULL);
/** Nothing may take longer, whatever the hub does. */
const PATIENCE_MS = 30_000;
/** Waits of tests that need not see the real ones; a machine with other work may take a while to answer. */
const QUICK: HttpSourceOptions = { retryDelaysMs: [1, 1, 1], stallTimeoutMs: 10_000 };
/** Of those in which the hub says nothing, or too little. */
const IMPATIENT: HttpSourceOptions = { ...QUICK, stallTimeoutMs: 500 };
const PATH = 'tiny.gguf';

interface Fixture {
  readonly bytes: Uint8Array;
  readonly plan: InstallPlan;
  readonly digests: Readonly<Record<string, string>>;
  readonly options: OpenModelOptions;
}

let tiny: Fixture;
let large: Fixture;
beforeAll(async () => {
  // Its keys fill what is read of a header at once: every tensor is behind it.
  const shape = { ...tinyOlmoe, hiddenSize: 64, expertWidth: 64, experts: 10 };
  const addKeys = ({ entries }: { readonly entries: Entry[] }) => {
    entries.push(['note.1', 'string', 'x'.repeat(999_000)], ['note.2', 'string', 'x'.repeat(43_000)]);
  };
  tiny = await prepare(writeTinyOlmoe(addKeys, shape), { batchBytes: 65_536 });
  // Pages of 6 MiB, which are kept in parts while they come.
  const wide = { ...tinyOlmoe, hiddenSize: 1024, headDim: 256, expertWidth: 512, experts: 2, layers: 1 };
  large = await prepare(writeTinyOlmoe(undefined, wide), {});
});

const hubs: Hub[] = [];
afterEach(async () => {
  await Promise.all(hubs.splice(0).map((hub) => hub.close()));
});

async function prepare(bytes: Uint8Array, options: OpenModelOptions): Promise<Fixture> {
  const source = createMemorySource(bytes, PATH);
  const plan = buildInstallPlan(await readGgufFile(source));
  const { manifest } = await installModel(source, createMemoryStore());
  return { bytes, plan, digests: manifest.digests, options };
}

async function start({ bytes }: Fixture): Promise<{ hub: Hub; file: HubFile; url: string }> {
  const file = createHubFile(bytes);
  const hub = await startHub({ repositories: { 'some/model': { [PATH]: file } } });
  hubs.push(hub);
  return { hub, file, url: `${hub.url}some/model/resolve/main/${PATH}` };
}

function install(url: string, store: ModelStore, { options }: Fixture, http = QUICK): Promise<InstallResult> {
  return installModel(createHttpFiles(url, http), store, options);
}

/** Which requests a fault meets. */
type Moment = (request: HubRequest, { plan }: Fixture) => boolean;

/** Longer than the samples of weights that name a model, which are read before its install begins. */
const meets =
  (prefix: string): Moment =>
  ({ range }, { plan }) =>
    range !== null &&
    range.end - range.start >= 4096 &&
    plan.records.some(
      ({ key, sourceRanges }) =>
        key.startsWith(prefix) &&
        sourceRanges.some(
          ({ offsetBytes, lengthBytes }) => offsetBytes <= range.end && range.start < offsetBytes + lengthBytes,
        ),
    );
const moments: Readonly<Record<string, Moment>> = {
  'the first request': ({ range }) => range?.start === 0 && range.end === 1,
  'a resident tensor': meets('tensor/'),
  'a page': meets('page/'),
};

/** In npm test the moment that most of an install consists of; in test:full all. */
const tested = Object.keys(moments).filter((name) => isFull || name === 'a page');

/** Ranges are answered by hand: what is sent need not be what was asked for. */
function sendRange(response: ServerResponse, { range }: HubRequest, body: Uint8Array, header?: string): void {
  const { start = 0, end = 0 } = range ?? {};
  response.writeHead(206, { 'Content-Range': header ?? `bytes ${start}-${end}/${tiny.bytes.byteLength}` }).end(body);
}

const getBody = ({ range }: HubRequest, more = 0): Uint8Array =>
  new Uint8Array((range?.end ?? 0) - (range?.start ?? 0) + 1 + more);

const status =
  (code: number): HubFault =>
  (_request, response) => {
    response.writeHead(code).end('an error page');
    return true;
  };

/** Promises a whole range, and leaves its body to the caller. */
function beginRange(response: ServerResponse, entry: HubRequest): Uint8Array {
  const body = getBody(entry);
  const { start = 0, end = 0 } = entry.range ?? {};
  const total = tiny.bytes.byteLength;
  response.writeHead(206, { 'Content-Range': `bytes ${start}-${end}/${total}`, 'Content-Length': body.byteLength });
  return body;
}

/** Cuts the line after half of the body. */
const cut: HubFault = (_request, response, entry) => {
  const body = beginRange(response, entry);
  response.write(body.subarray(0, body.byteLength / 2), () => response.socket?.destroy());
  return true;
};

/** Headers, and from then on a byte now and then. */
const drip: HubFault = (_request, response, entry) => {
  const body = beginRange(response, entry);
  void (async () => {
    for (let sent = 1; sent < body.byteLength && !response.destroyed; sent++) {
      response.write(body.subarray(0, 1));
      await wait(40);
    }
  })();
  return true;
};

const silent: HubFault = () => true;

const getWaits = (fault: HubFault): HttpSourceOptions => (fault === silent || fault === drip ? IMPATIENT : QUICK);

/** What may be gone at the next attempt. */
const passing: Readonly<Record<string, HubFault>> = {
  'status 500': status(500),
  'status 503': status(503),
  'status 429': status(429),
  'a connection that is reset': (request) => {
    request.socket.destroy();
    return true;
  },
  'a connection that is cut in the middle of the range': cut,
  'a range that is cut short by a byte': (_request, response, entry) => {
    sendRange(response, entry, getBody(entry, -1));
    return true;
  },
  'a hub that says nothing': silent,
  'a hub that drips (slow-loris)': drip,
};

/** What another attempt would not mend. */
const lasting: Readonly<Record<string, readonly [HubFault, RegExp]>> = {
  'a range that is a byte too long': [
    (_request, response, entry) => {
      sendRange(response, entry, getBody(entry, 1));
      return true;
    },
    /a body of \d+ bytes, got at least \d+/,
  ],
  'another range than was asked for': [
    (_request, response, entry) => {
      const { start = 0, end = 0 } = entry.range ?? {};
      sendRange(response, entry, getBody(entry), `bytes ${start + 1}-${end + 1}/${tiny.bytes.byteLength}`);
      return true;
    },
    /a Content-Range of "bytes \d+-\d+\/\.\.\.", got "bytes/,
  ],
  'another length of the file': [
    (_request, response, entry) => {
      const { start = 0, end = 0 } = entry.range ?? {};
      sendRange(response, entry, getBody(entry), `bytes ${start}-${end}/${tiny.bytes.byteLength + 1}`);
      return true;
    },
    /changed while it was being read: its size in bytes/,
  ],
  'the whole file instead of the range': [
    (_request, response) => {
      response.writeHead(200, { 'Content-Length': tiny.bytes.byteLength }).end(tiny.bytes);
      return true;
    },
    /expected status 206, got status 200/,
  ],
  'status 403': [status(403), /status 403; the file needs a permission/],
  'status 404': [status(404), /status 404; check the URL/],
};

/** A store that knows how often it was written to. */
function createCountingStore(): ModelStore & { readonly log: { writes: number } } {
  const memory = createMemoryStore();
  const log = { writes: 0 };
  return {
    ...memory,
    log,
    async writeRecords(modelId, records) {
      await memory.writeRecords(modelId, records);
      if (!modelId.startsWith('source-')) log.writes++;
    },
  };
}

interface Script {
  readonly hub: Hub;
  readonly store: ReturnType<typeof createCountingStore>;
  readonly fixture: Fixture;
  readonly moment: string;
  readonly fault: HubFault;
  readonly times: number;
}

/** Lets `times` requests of a moment have a fault; those for pages once there is something to lose. */
function script({ hub, store, fixture, moment, fault, times }: Script): { readonly met: number } {
  const log = { met: 0 };
  hub.fault = (request, response, entry) => {
    if (!(moments[moment] as Moment)(entry, fixture) || log.met === times) return false;
    if (moment === 'a page' && store.log.writes === 0) return false;
    log.met++;
    return fault(request, response, entry);
  };
  return log;
}

/** What the store holds is not asked for again, and the model is whole and right in the end. */
async function expectResumed(hub: Hub, url: string, store: ModelStore, fixture: Fixture): Promise<void> {
  const { plan, digests } = fixture;
  const kept = await store.readDigests(plan.modelId);
  for (const [key, digest] of kept) if (digests[key]) expect(digest, key).toBe(digests[key]);
  hub.fault = () => false;
  hub.requests.length = 0;
  const { manifest, installed } = await install(url, store, fixture);
  expect(installed).toBe(true);
  expect(manifest.digests).toEqual(digests);
  expect(await listModels(store)).toMatchObject([{ modelId: plan.modelId, storedShare: 1 }]);
  const partRanges = [...kept.keys()].flatMap((key) => {
    const [, record = '', range = '', startByte = ''] = /^part\/(.+)\/(\d+)\/(\d+)$/.exec(key) ?? [];
    const found = plan.records.find((candidate) => candidate.key === record)?.sourceRanges[Number(range)];
    return found ? [{ offsetBytes: found.offsetBytes + Number(startByte), lengthBytes: 1 }] : [];
  });
  const keptRanges = plan.records.flatMap(({ key, sourceRanges }) => (kept.has(key) ? sourceRanges : []));
  for (const { offsetBytes, lengthBytes } of [...keptRanges, ...partRanges]) {
    // Gaps of up to 4 KiB are read across.
    const first = lengthBytes > 4096 ? offsetBytes + 4096 : offsetBytes;
    const again = hub.requests.filter(({ range }) => range && range.start <= first && first <= range.end);
    if (lengthBytes > 8192 || lengthBytes === 1) expect(again, `byte ${first}`).toEqual([]);
  }
}

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
