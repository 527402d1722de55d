/**
 * The 256 printable characters that byte-level BPE writes for bytes (GPT-2's `bytes_to_unicode`).
 * Owns the mapping only.
 */

/** Bytes that stand for themselves: printable Latin-1 without the soft hyphen. */
const isPrintable = (byte: number): boolean =>
  (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);

const byteByCharacter: ReadonlyMap<string, number> = (() => {
  const map = new Map<string, number>();
  let shifted = 0x100;
  for (let byte = 0; byte < 256; byte++) map.set(String.fromCharCode(isPrintable(byte) ? byte : shifted++), byte);
  return map;
})();

/** Bytes of a token in byte-level spelling, or null when it has a character that stands for no byte. */
export function decodeByteLevel(token: string): Uint8Array<ArrayBuffer> | null {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = byteByCharacter.get(token.charAt(i));
    if (byte === undefined) return null;
    bytes[i] = byte;
  }
  return bytes;
}
