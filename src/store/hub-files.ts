/**
 * A repository on the Hugging Face Hub as a checkpoint: `hf:owner/name[@revision][/file]`.
 * Owns which of its files is the model; the revision is resolved once, so that every range is of one commit.
 */
import { throwIfAborted } from '../aborts';
import type { CheckpointFiles } from '../checkpoint/checkpoint-files';
import { EngineError } from '../errors';
import { chooseModelFile } from './choose-file';
import { findHttpSource, type HttpSourceOptions } from './http-source';
import { pause } from './pause';

export interface HubOptions extends HttpSourceOptions {
  /** For private and gated repositories. Sent to the hub alone. */
  readonly accessToken?: string | undefined;
  /** Default: https://huggingface.co */
  readonly hubUrl?: string | undefined;
}

interface HubReference {
  readonly repository: string;
  readonly revision: string | undefined;
  readonly file: string | undefined;
}

const DEFAULT_HUB_URL = 'https://huggingface.co';
const RETRY_DELAYS_MS = [250, 1000, 3000];
/** For one answer. One that does not come is asked for once more. */
const STALL_TIMEOUT_MS = 12_000;
export function isHubUrl(url: string): boolean {
  return url.startsWith('hf:');
}

/**
 * Looks a repository up and chooses its model file; `onWarning` is told which, where several could be meant.
 * @throws EngineError `BAD_ARGUMENT` (no such form, no model in it), `NETWORK`, `ABORTED`.
 */
export async function openHubFiles(url: string, options: HubOptions = {}): Promise<CheckpointFiles> {
  const { repository, revision, file } = parseHubUrl(url);
  const { accessToken, signal, fetch, onWarning } = options;
  const hubUrl = (options.hubUrl ?? DEFAULT_HUB_URL).replace(/\/$/, '');
  // Not part of what a page loads that never names a repository.
  const { listFiles, modelInfo } = await import('@huggingface/hub');
  const { retryDelaysMs = RETRY_DELAYS_MS, stallTimeoutMs = STALL_TIMEOUT_MS } = options;
  /** Ends with the caller's signal, and when the hub says nothing. */
  const limitedFetch: typeof globalThis.fetch = (input, init) => {
    // Not AbortSignal.timeout: Node 20 collects one that only AbortSignal.any knows, and then it never fires.
    const silence = new AbortController();
    const reason = new DOMException(`timeout: no answer within ${stallTimeoutMs / 1000} s`, 'TimeoutError');
    setTimeout(() => silence.abort(reason), stallTimeoutMs);
    const signals = [init?.signal, signal, silence.signal].filter((one) => one != null);
    return (fetch ?? globalThis.fetch)(input, { ...init, signal: AbortSignal.any(signals) });
  };
  const common = { hubUrl, ...(accessToken ? { accessToken } : {}), fetch: limitedFetch };
  const ask = <T>(question: () => Promise<T>) => askHub(url, signal, retryDelaysMs, question);
  const { sha } = await ask(() =>
    modelInfo({ ...common, name: repository, additionalFields: ['sha'], ...(revision ? { revision } : {}) }),
  );
  const files = await ask(async () => {
    const found: { path: string; size: number }[] = [];
    for await (const entry of listFiles({ ...common, repo: repository, revision: sha, recursive: true })) {
      if (entry.type === 'file') found.push({ path: entry.path, size: entry.lfs?.size ?? entry.size });
    }
    return found;
  });
  const ggufPath = chooseModelFile(url, file, files, onWarning);
  const paths = new Set(files.map(({ path }) => path));
  const headers = accessToken ? { Authorization: `Bearer ${accessToken}` } : {};
  return {
    name: `hf:${repository}@${sha}${ggufPath === null ? '' : `/${ggufPath}`}`,
    ggufPath,
    async find(path, findSignal = signal) {
      if (!paths.has(path)) return null;
      const escaped = path.split('/').map(encodeURIComponent).join('/');
      return findHttpSource(`${hubUrl}/${repository}/resolve/${sha}/${escaped}`, {
        ...options,
        headers,
        signal: findSignal,
      });
    },
  };
}

function parseHubUrl(url: string): HubReference {
  const match = /^hf:([\w.-]+\/[\w.-]+)(?:@([\w.-]+))?(?:\/(.+))?$/.exec(url);
  if (!match?.[1]) {
    throw new EngineError(
      'BAD_ARGUMENT',
      `"${url}" names no repository; write hf:owner/name, hf:owner/name@revision or hf:owner/name@revision/file.gguf`,
    );
  }
  return { repository: match[1], revision: match[2], file: match[3] };
}

/** The hub's answer to a question, asked again after failures that may pass. */
async function askHub<T>(
  url: string,
  signal: AbortSignal | undefined,
  retryDelaysMs: readonly number[],
  question: () => Promise<T>,
): Promise<T> {
  let stalls = 0;
  for (let retries = 0; ; retries++) {
    throwIfAborted(signal, `looking up ${url}`);
    try {
      return await question();
    } catch (cause) {
      const status = cause instanceof Error && 'statusCode' in cause ? Number(cause.statusCode) : null;
      throwIfAborted(signal, `looking up ${url}`);
      const delayMs = retryDelaysMs[retries];
      if (cause instanceof DOMException && cause.name === 'TimeoutError') stalls++;
      const mayPass = stalls < 2 && (status === null || status >= 500 || status === 429);
      if (!mayPass || delayMs === undefined) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        throw new EngineError('NETWORK', `${url}: the hub said no (${reason}); ${getRemedy(status)}`, { cause });
      }
      await pause(delayMs, signal);
    }
  }
}

function getRemedy(status: number | null): string {
  if (status === 401 || status === 403) return 'the repository is private, gated or misspelt: give an access token';
  if (status === 404) return 'check the names of owner, repository and revision';
  return 'check the connection, try again';
}
