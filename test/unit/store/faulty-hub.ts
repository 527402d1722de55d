/**
 * Installs from a hub that misbehaves: what it does, which requests that meets, and what must hold when it is well again.
 * Owns the files that are installed and the hubs' ends; tests say what is expected of each fault.
 */
import type { ServerResponse } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import { afterEach, expect } from 'vitest';
import { readGgufFile } from '../../../src/checkpoint/gguf';
import { buildInstallPlan, type InstallPlan } from '../../../src/checkpoint/install-plan';
import { createHttpFiles } from '../../../src/store/http-files';
import type { HttpSourceOptions } from '../../../src/store/http-source';
import { type InstallResult, installModel } from '../../../src/store/install';
import { listModels } from '../../../src/store/list-models';
import { createMemorySource } from '../../../src/store/memory-source';
import { createMemoryStore } from '../../../src/store/memory-store';
import type { ModelStore } from '../../../src/store/model-store';
import type { OpenModelOptions } from '../../../src/store/open-model';
import { createHubFile, type Hub, type HubFault, type HubFile, type HubRequest, startHub } from '../../hub/hub';
import { type Entry, tinyOlmoe, writeTinyOlmoe } from '../checkpoint/gguf-writer';

/** Waits of tests that need not see the real ones; a machine with other work may take a while to answer. */
export const QUICK: HttpSourceOptions = { retryDelaysMs: [1, 1, 1], stallTimeoutMs: 10_000 };
/** Of those in which the hub says nothing, or too little. */
const IMPATIENT: HttpSourceOptions = { ...QUICK, stallTimeoutMs: 500 };
const PATH = 'tiny.gguf';

export interface Fixture {
  readonly bytes: Uint8Array;
  readonly plan: InstallPlan;
  readonly digests: Readonly<Record<string, string>>;
  readonly options: OpenModelOptions;
}

// Its keys fill what is read of a header at once: every tensor is behind it.
const longHeader = ({ entries }: { readonly entries: Entry[] }) => {
  entries.push(['note.1', 'string', 'x'.repeat(999_000)], ['note.2', 'string', 'x'.repeat(43_000)]);
};
export const tiny = await prepare(
  writeTinyOlmoe(longHeader, { ...tinyOlmoe, hiddenSize: 64, expertWidth: 64, experts: 10 }),
  { batchBytes: 65_536 },
);
/** Pages of 6 MiB, which are kept in parts while they come. */
export const large = await prepare(
  writeTinyOlmoe(undefined, { ...tinyOlmoe, hiddenSize: 1024, headDim: 256, expertWidth: 512, experts: 2, layers: 1 }),
  {},
);

const hubs: Hub[] = [];
afterEach(async () => {
  await Promise.all(hubs.splice(0).map((hub) => hub.close()));
});

export async function prepare(bytes: Uint8Array, options: OpenModelOptions): Promise<Fixture> {
  const source = createMemorySource(bytes, PATH);
  const plan = buildInstallPlan(await readGgufFile(source));
  const { manifest } = await installModel(source, createMemoryStore());
  return { bytes, plan, digests: manifest.digests, options };
}

export async function start({ bytes }: Fixture): Promise<{ hub: Hub; file: HubFile; url: string }> {
  const file = createHubFile(bytes);
  const hub = await startHub({ repositories: { 'some/model': { [PATH]: file } } });
  hubs.push(hub);
  return { hub, file, url: `${hub.url}some/model/resolve/main/${PATH}` };
}

export function install(url: string, store: ModelStore, { options }: Fixture, http = QUICK): Promise<InstallResult> {
  return installModel(createHttpFiles(url, http), store, options);
}

/** Which requests a fault meets. */
export type Moment = (request: HubRequest, { plan }: Fixture) => boolean;

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
export const moments: Readonly<Record<string, Moment>> = {
  'the first request': ({ range }) => range?.start === 0 && range.end === 1,
  'a resident tensor': meets('tensor/'),
  'a page': meets('page/'),
};

/** Ranges are answered by hand: what is sent need not be what was asked for. */
function sendRange(response: ServerResponse, { range }: HubRequest, body: Uint8Array, header?: string): void {
  const { start = 0, end = 0 } = range ?? {};
  response.writeHead(206, { 'Content-Range': header ?? `bytes ${start}-${end}/${tiny.bytes.byteLength}` }).end(body);
}

const getBody = ({ range }: HubRequest, more = 0): Uint8Array =>
  new Uint8Array((range?.end ?? 0) - (range?.start ?? 0) + 1 + more);

export const status =
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

export const silent: HubFault = () => true;

export const getWaits = (fault: HubFault): HttpSourceOptions =>
  fault === silent || fault === drip ? IMPATIENT : QUICK;

/** What may be gone at the next attempt. */
export const passing: Readonly<Record<string, HubFault>> = {
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
export const lasting: Readonly<Record<string, readonly [HubFault, RegExp]>> = {
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
export function createCountingStore(): ModelStore & { readonly log: { writes: number } } {
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
export function script({ hub, store, fixture, moment, fault, times }: Script): { readonly met: number } {
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
export async function expectResumed(hub: Hub, url: string, store: ModelStore, fixture: Fixture): Promise<void> {
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
