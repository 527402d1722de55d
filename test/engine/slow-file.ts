/**
 * A model file behind a URL, for `EngineEnvironment.fetch`: ranges as a web server answers them, at a pace that the test sets.
 * Owns the pretence of a network; no request leaves the page.
 */
export interface SlowFile {
  readonly url: string;
  readonly fetch: typeof globalThis.fetch;
  /** Waited before every piece of every answer. */
  pieceMs: number;
  /** Of all answers so far. */
  sentBytes: number;
}

const PIECE_BYTES = 8192;

export function createSlowFile(bytes: Uint8Array<ArrayBuffer>): SlowFile {
  const file: SlowFile = {
    url: 'https://models.test/model.gguf',
    pieceMs: 0,
    sentBytes: 0,
    async fetch(_url, init) {
      const range = /^bytes=(\d+)-(\d+)$/.exec(new Headers(init?.headers).get('range') ?? '');
      if (!range) throw new TypeError('the test serves ranges only');
      const start = Number(range[1]);
      const end = Math.min(bytes.byteLength, Number(range[2]) + 1);
      let at = start;
      const body = new ReadableStream<Uint8Array>({
        async pull(controller) {
          await new Promise((resolve) => setTimeout(resolve, file.pieceMs));
          if (init?.signal?.aborted) return controller.error(init.signal.reason);
          const piece = bytes.slice(at, Math.min(end, at + PIECE_BYTES));
          at += piece.byteLength;
          file.sentBytes += piece.byteLength;
          controller.enqueue(piece);
          if (at >= end) controller.close();
        },
      });
      const headers = { 'content-range': `bytes ${start}-${end - 1}/${bytes.byteLength}`, etag: '"1"' };
      return new Response(body, { status: 206, headers });
    },
  };
  return file;
}
