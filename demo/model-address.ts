/**
 * Where a model may come from: what the page's Content-Security-Policy lets it ask (index.html, which a test holds this
 * against), said before a request fails without a reason. Pure.
 */
import { EngineError } from '../src/index';

/** Plain http that never leaves this computer. The policy's syntax has no IPv6 address. */
const LOOPBACK_HOSTS: ReadonlySet<string> = new Set(['localhost', '127.0.0.1']);

/**
 * The whole address of what someone typed: a name on the hub as it is, anything else by the page's own address.
 * @throws EngineError `BAD_ARGUMENT` where it is no address, or none that the page may ask.
 */
export function resolveAddress(typed: string, pageAddress: string): string {
  let address: URL;
  try {
    address = new URL(typed, pageAddress);
  } catch (cause) {
    const message = `"${typed}" is no address: give hf:owner/name, or the URL of a GGUF file or of a folder.`;
    throw new EngineError('BAD_ARGUMENT', message, { cause });
  }
  const { protocol, hostname, origin, href } = address;
  const isAllowed =
    protocol === 'hf:' ||
    protocol === 'https:' ||
    origin === new URL(pageAddress).origin ||
    (protocol === 'http:' && LOOPBACK_HOSTS.has(hostname));
  if (isAllowed) return href;
  throw new EngineError(
    'BAD_ARGUMENT',
    `"${typed}" is an address of ${protocol === 'http:' ? origin : `the kind ${protocol}`}, which this page's ` +
      'Content-Security-Policy does not let it ask: allowed are https, and plain http from the page’s own server, ' +
      'http://localhost and http://127.0.0.1. Give such an address, or download the file and choose it here.',
  );
}
