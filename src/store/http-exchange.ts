/**
 * One HTTP request with bounded retries, a stall timeout and a body that is read to its exact length.
 * The only file that calls fetch. Knows nothing of ranges, versions or models.
 */
import { throwIfAborted } from '../aborts';
import { EngineError } from '../errors';
import { pause } from './pause';

export interface ExchangeOptions {
  /** Default: the global one. It must honour the signal that it is given. */
  readonly fetch?: typeof globalThis.fetch | undefined;
  /** Sent with every request. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Pauses before the second, third, ... attempt, in milliseconds; their number bounds the retries. */
  readonly retryDelaysMs?: readonly number[] | undefined;
  /**
   * How long a server may take for the first byte, and then for each {@link MIN_PROGRESS_BYTES}. A stalled request is tried
   * once more. Default 12 s: with the second attempt, a server that says nothing is given up within half a minute.
   */
  readonly stallTimeoutMs?: number | undefined;
}

/** A response whose body is still to be read. */
export interface Answer {
  readonly response: Response;
  /** @throws EngineError `NETWORK` for more than `lengthBytes`, {@link TransientFailure} for less. */
  readExactly(lengthBytes: number): Promise<Uint8Array>;
  readChunks(): AsyncIterable<Uint8Array<ArrayBuffer>>;
  /** The error for an answer that is not what was asked for; transient for statuses that may pass. */
  refuse(expected: string, got?: string): EngineError;
}

export interface Exchange {
  /** Sends the request and has `consume` read the answer; both again after a transient failure. */
  send<T>(
    request: { readonly method?: string; readonly headers?: Record<string, string> },
    signal: AbortSignal | undefined,
    consume: (answer: Answer) => Promise<T>,
  ): Promise<T>;
}

/** A failure that may be gone at the next attempt. */
export class TransientFailure extends EngineError {
  readonly stalled: boolean;

  constructor(message: string, options?: ErrorOptions & { stalled?: boolean }) {
    super('NETWORK', message, options);
    this.stalled = options?.stalled ?? false;
  }
}

const DEFAULT_RETRY_DELAYS_MS = [250, 1000, 3000];
const DEFAULT_STALL_TIMEOUT_MS = 12_000;
/** After so many times a stall with nothing sent, a second failure is the last: servers may be slow to refuse, too. */
const MAX_QUIET_STALLS = 1.5;
/** A server that sends less in the time of a stall will not be done before anyone has lost patience: 1.3 kB/s. */
const MIN_PROGRESS_BYTES = 16_384;

export function createExchange(url: string, options: ExchangeOptions): Exchange {
  const send = options.fetch ?? globalThis.fetch.bind(globalThis);
  const delaysMs = options.retryDelaysMs ?? DEFAULT_RETRY_DELAYS_MS;
  const stallTimeoutMs = options.stallTimeoutMs ?? DEFAULT_STALL_TIMEOUT_MS;

  const attempt = async <T>(
    request: Parameters<Exchange['send']>[0],
    signal: AbortSignal | undefined,
    consume: (answer: Answer) => Promise<T>,
    onProgress: () => void,
  ): Promise<T> => {
    throwIfAborted(signal, `reading ${url}`);
    const controller = new AbortController();
    const abort = () => controller.abort();
    signal?.addEventListener('abort', abort, { once: true });
    let stalled = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const restartTimer = () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        stalled = true;
        abort();
      }, stallTimeoutMs);
    };
    restartTimer();
    try {
      // no-store: Chromium's HTTP cache lets only one request per URL write at a time, which would serialise parallel
      // ranges, and it would keep a second copy of what is installed
      const headers = { ...options.headers, ...request.headers };
      const response = await send(url, { ...request, headers, cache: 'no-store', signal: controller.signal });
      restartTimer();
      let slowBytes = 0;
      const onBytes = (bytes: number) => {
        slowBytes += bytes;
        if (slowBytes < MIN_PROGRESS_BYTES) return;
        slowBytes = 0;
        restartTimer();
        onProgress();
      };
      return await consume(createAnswer(url, response, onBytes));
    } catch (cause) {
      throwIfAborted(signal, `reading ${url}`);
      if (stalled) {
        const waited = `${stallTimeoutMs / 1000} s`;
        throw new TransientFailure(`${url}: expected data, got nearly none for ${waited}; check the connection`, {
          cause,
          stalled,
        });
      }
      if (cause instanceof EngineError) throw cause;
      // what fetch and body streams reject with: TypeError for every network fault
      throw new TransientFailure(`${url}: expected an answer, got a network error (${getReason(cause)})`, { cause });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      // ends the transfer of a body that was refused; nothing otherwise
      abort();
    }
  };

  return {
    async send(request, signal, consume) {
      let stalls = 0;
      let progressMs = performance.now();
      const noteProgress = () => {
        progressMs = performance.now();
      };
      for (let retries = 0; ; retries++) {
        try {
          return await attempt(request, signal, consume, noteProgress);
        } catch (error) {
          if (!(error instanceof TransientFailure)) throw error;
          if (error.stalled) stalls++;
          const delayMs = delaysMs[retries];
          const quietMs = performance.now() - progressMs;
          const isLate = retries > 0 && quietMs + (delayMs ?? 0) > MAX_QUIET_STALLS * stallTimeoutMs;
          if (delayMs === undefined || stalls > 1 || isLate) {
            const message = `${error.message} (attempts: ${retries + 1}); check the connection and the server, try again`;
            throw new EngineError('NETWORK', message, { cause: error });
          }
          await pause(delayMs, signal);
          throwIfAborted(signal, `reading ${url}`);
        }
      }
    },
  };
}

/** Whether a server of pages that route by themselves answered with its page: so it does where there is no file. */
export function isFallbackPage({ ok, headers }: Response): boolean {
  return ok && /^text\/html\b/i.test(headers.get('Content-Type') ?? '');
}

function createAnswer(url: string, response: Response, onBytes: (bytes: number) => void): Answer {
  const answer: Answer = {
    response,
    async *readChunks() {
      const reader = response.body?.getReader();
      if (reader === undefined) return;
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        onBytes(value.byteLength);
        yield value;
      }
    },
    async readExactly(lengthBytes) {
      const bytes = new Uint8Array(lengthBytes);
      let filledBytes = 0;
      for await (const chunk of answer.readChunks()) {
        if (filledBytes + chunk.byteLength > lengthBytes) {
          throw answer.refuse(`a body of ${lengthBytes} bytes`, `at least ${filledBytes + chunk.byteLength}`);
        }
        bytes.set(chunk, filledBytes);
        filledBytes += chunk.byteLength;
      }
      if (filledBytes < lengthBytes) {
        throw new TransientFailure(`${url}: expected a body of ${lengthBytes} bytes, got ${filledBytes}`);
      }
      return bytes;
    },
    refuse(expected, got = `status ${response.status}`) {
      const message = `${url}: expected ${expected}, got ${got}`;
      const { status } = response;
      if (status >= 500 || status === 429 || status === 408) return new TransientFailure(message);
      return new EngineError('NETWORK', `${message}; ${getRemedy(status)}`);
    },
  };
  return answer;
}

function getRemedy(status: number): string {
  if (status === 401 || status === 403) return 'the file needs a permission that this page does not have';
  if (status === 404 || status === 410) return 'check the URL';
  return 'the server must answer range requests (RFC 9110, section 14) for exactly the bytes that were asked for';
}

/** Node puts the reason of "fetch failed" into the cause. */
function getReason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}
