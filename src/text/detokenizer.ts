/**
 * Token bytes to text as they arrive: a UTF-8 character comes out when its last byte is there, never in parts.
 * Owns the bytes of the one unfinished character.
 */

export interface Detokenizer {
  /** The text that is complete now. Bytes that can never become a character give U+FFFD. */
  push(tokenBytes: Uint8Array<ArrayBuffer>): string;
  /** What is left at the end: U+FFFD for an unfinished character. Ready for another text afterwards. */
  flush(): string;
}

export function createDetokenizer(): Detokenizer {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  return {
    push: (tokenBytes) => decoder.decode(tokenBytes, { stream: true }),
    flush: () => decoder.decode(),
  };
}
