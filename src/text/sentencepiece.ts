/**
 * A SentencePiece BPE vocabulary (GGUF model "llama": tokens with scores) as the merges of a BPE tokenizer.
 * Owns that translation, which is the one of transformers (convert_slow_tokenizer.py, generate_merges).
 */
import { EngineError } from '../errors';

/** SentencePiece's space. */
export const SPACE_SYMBOL = '\u2581';

/**
 * Merges by falling score of what they make. SentencePiece merges the pair with the best score first; every way to
 * split a token into two tokens is such a pair.
 * @param isMergeable Whether a token is ordinary text.
 */
export function buildMerges(
  tokens: readonly string[],
  scores: readonly number[] | null,
  isMergeable: (id: number) => boolean,
): [left: string, right: string][] {
  if (!scores) {
    throw new EngineError('BAD_FILE', 'a "llama" tokenizer needs "tokenizer.ggml.scores"; convert the model again');
  }
  const ids = new Map<string, number>();
  for (const [id, token] of tokens.entries()) if (isMergeable(id)) ids.set(token, id);
  const merges: { left: string; right: string; score: number }[] = [];
  for (const [token, id] of ids) {
    const score = scores[id] as number;
    const splits: { left: string; right: string; score: number }[] = [];
    let at = 0;
    for (const character of token) {
      at += character.length;
      const left = token.slice(0, at);
      const right = token.slice(at);
      if (ids.has(left) && ids.has(right)) splits.push({ left, right, score });
    }
    const getId = (piece: string) => ids.get(piece) as number;
    splits.sort((a, b) => getId(a.left) - getId(b.left) || getId(a.right) - getId(b.right));
    merges.push(...splits);
  }
  // Stable, so that tokens of one score keep their order.
  return merges.sort((a, b) => b.score - a.score).map(({ left, right }) => [left, right]);
}
