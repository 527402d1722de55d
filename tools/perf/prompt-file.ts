/** What is asked: the tool's own prompts, or the first messages of a file of chat documents. */
import { readDocuments } from '../documents.ts';
import { ToolError } from '../tool-error.ts';
import type { PerfFlags } from './flags.ts';
import type { Measurement } from './measurement.ts';
import { ladderPrompts } from './prompts.ts';

/** @throws ToolError `BAD_ARGUMENT` or `BAD_FILE`, where the file has too few first messages that differ. */
export async function readPrompts(from: PerfFlags['prompts']): Promise<Measurement['prompts']> {
  const texts = from ? await readFirstMessages(from.path) : ladderPrompts.map(({ text }) => text);
  const count = from?.count ?? texts.length;
  if (texts.length < count) {
    throw new ToolError(
      'BAD_FILE',
      `${from?.path}: ${texts.length} first messages that differ, --prompt-count ${count}; ask for ${texts.length} at most`,
    );
  }
  const spread = Array.from({ length: count }, (_, at) => texts[Math.floor((at * texts.length) / count)] as string);
  return spread.map((text, seed) => ({ text, seed }));
}

async function readFirstMessages(path: string): Promise<string[]> {
  const documents = await readDocuments(path, 1, '--prompts');
  const firsts = documents.flatMap(({ request: { messages } }) => messages?.[0] ?? []);
  return [
    ...new Set(firsts.filter(({ role, content }) => role === 'user' && content !== '').map(({ content }) => content)),
  ];
}
