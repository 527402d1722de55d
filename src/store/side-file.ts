/**
 * Small files that come beside a model: read whole, unpacked where they are gzip.
 * Never keeps them, and knows none of their formats.
 */
import { EngineError } from '../errors';
import { createExchange, type ExchangeOptions, isFallbackPage } from './http-exchange';

/** What a predictor learnt, or a small network: anything larger is not what it says it is. */
const maxBytes = 64 << 20;

/**
 * Null when there is no such file.
 * @throws EngineError `NETWORK`, `BAD_FILE`, `ABORTED`
 */
export async function readSideFile(
  url: string,
  options: ExchangeOptions & { readonly signal?: AbortSignal | undefined } = {},
): Promise<Uint8Array<ArrayBuffer> | null> {
  return createExchange(url, options).send({}, options.signal, async (answer) => {
    if (answer.response.status === 404 || isFallbackPage(answer.response)) return null;
    if (!answer.response.ok) throw answer.refuse('the file');
    const bytes = await collect(answer.readChunks(), url);
    // A server may have unpacked it on the way already.
    if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
    const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    try {
      return await collect(readStream(unpacked), url);
    } catch (cause) {
      if (cause instanceof EngineError) throw cause;
      throw new EngineError('BAD_FILE', `${url}: it begins as gzip and does not unpack; is it cut short?`, { cause });
    }
  });
}

async function* readStream(stream: ReadableStream<Uint8Array>): AsyncIterable<Uint8Array> {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

async function collect(chunks: AsyncIterable<Uint8Array>, url: string): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.byteLength;
    if (size > maxBytes) throw new EngineError('BAD_FILE', `${url}: more than ${maxBytes} bytes; give a smaller file`);
    parts.push(chunk);
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}
