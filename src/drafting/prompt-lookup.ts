/**
 * Drafts by looking up: where did the last few tokens stand before, and what followed there? Copies the continuation of the
 * longest such place, the latest among equals. Pure; owns an index of the text's n-grams.
 * Source: Saxena, Prompt Lookup Decoding, 2023.
 */

/** Tokens that have to agree; shorter matches say little. */
const LEAST_MATCH = 3;
/** Matches are told apart by length up to this one. */
const MOST_MATCH = 12;

export class PromptLookup {
  readonly #text: number[] = [];
  /** Where each run of LEAST_MATCH tokens ended, the latest last; the run that ends the text is not in it yet. */
  readonly #ends = new Map<string, number[]>();

  /** Notes the next token of the text. */
  push(tokenId: number): void {
    if (this.#text.length >= LEAST_MATCH) {
      const key = this.#getKey();
      const ends = this.#ends.get(key);
      if (ends) ends.push(this.#text.length);
      else this.#ends.set(key, [this.#text.length]);
    }
    this.#text.push(tokenId);
  }

  /** At most `count` tokens that may follow; none where nothing matches. */
  draft(count: number): number[] {
    if (this.#text.length < LEAST_MATCH) return [];
    let at = -1;
    let longest = 0;
    for (const end of this.#ends.get(this.#getKey()) ?? []) {
      const length = this.#getMatch(end);
      if (length < longest) continue;
      longest = length;
      at = end;
    }
    if (at < 0) return [];
    // A copy may run into what it has just made: a text that repeats itself goes on repeating.
    const all = [...this.#text];
    for (let i = 0; i < count; i++) all.push(all[at + i] as number);
    return all.slice(this.#text.length);
  }

  #getKey(): string {
    return this.#text.slice(-LEAST_MATCH).join();
  }

  /** Tokens before `end` that agree with the end of the text. */
  #getMatch(end: number): number {
    let length = LEAST_MATCH;
    const last = this.#text.length;
    while (length < MOST_MATCH && length < end && this.#text[end - 1 - length] === this.#text[last - 1 - length])
      length++;
    return length;
  }
}
