/** Real checkpoints' tokenizers and chat templates, cut down to what a page of hard text needs (../../oracle/README.md). */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { renderChat } from '../../../src/text/chat-template';
import { createTokenizer } from '../../../src/text/tokenizer';
import { type GoldenCheckpoint, readCheckpointTokenizer, toGgufKeys } from '../../golden/tokenizer-keys';

interface Chat {
  messages: { role: 'system' | 'user' | 'assistant'; content: string }[];
  addGenerationPrompt: boolean;
  text?: string;
  ids?: number[];
  refusal?: string;
}

interface Checkpoint extends GoldenCheckpoint {
  ids: number[][];
  chats: Chat[];
}

// Written by test/oracle/make_real_tokenizers.py.
const { texts, models }: { texts: string[]; models: Record<string, Checkpoint> } = JSON.parse(
  gunzipSync(readFileSync(new URL('../../golden/real-tokenizers.json.gz', import.meta.url))).toString(),
);

// Llama 3.2's template asks what day it is.
beforeAll(() => void vi.useFakeTimers({ now: new Date(2024, 6, 26, 12), toFake: ['Date'] }));
afterAll(() => void vi.useRealTimers());

const plain = { parseSpecial: false, addBos: false };

describe.each(Object.entries(models))('%s', (_, checkpoint) => {
  const data = readCheckpointTokenizer(checkpoint);
  const { pre } = checkpoint;

  it('encodes hard text as the tokenizers package does, from its tokenizer.json', () => {
    const tokenizer = createTokenizer(data);
    for (const [i, text] of texts.entries()) {
      expect(tokenizer.encode(text, plain), JSON.stringify(text)).toEqual(checkpoint.ids[i]);
    }
  });

  it.skipIf(pre === null)('encodes it the same from the keys of a GGUF file', () => {
    const tokenizer = createTokenizer(toGgufKeys(checkpoint));
    for (const [i, text] of texts.entries()) {
      expect(tokenizer.encode(text, plain), JSON.stringify(text)).toEqual(checkpoint.ids[i]);
    }
  });

  it.skipIf(checkpoint.chats.length === 0)(
    'renders conversations as transformers does, or refuses them as it does',
    () => {
      const tokenizer = createTokenizer(data);
      let rendered = 0;
      for (const { messages, addGenerationPrompt, text, ids } of checkpoint.chats) {
        const render = () => renderChat(data, tokenizer, messages, { addGenerationPrompt });
        if (ids) expect(render(), text).toEqual(ids);
        else expect(render).toThrow(/refused/);
        if (ids) rendered++;
      }
      expect(rendered).toBeGreaterThanOrEqual(4);
    },
  );

  it.skipIf(checkpoint.chats.length === 0)('takes special tokens inside a message for text', () => {
    const tokenizer = createTokenizer(data);
    const render = (content: string) =>
      renderChat(data, tokenizer, [{ role: 'user', content }], { addGenerationPrompt: true });
    const count = (ids: readonly number[]) => ids.filter((id) => tokenizer.isControl(id)).length;
    const marks = count(render('x'));
    expect(marks).toBeGreaterThan(0);
    for (const special of tokenizer.specialTexts.slice(0, 40)) {
      expect(count(render(`a ${special} b`)), special).toBe(marks);
    }
  });
});

it('covers six chat templates', () => {
  expect(Object.values(models).filter(({ chats }) => chats.length > 0).length).toBeGreaterThanOrEqual(6);
});
