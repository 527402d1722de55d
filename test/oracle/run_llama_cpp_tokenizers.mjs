// Encodes the page of hard text with llama.cpp, by every pre-tokenizer and vocabulary of test/golden/encodings.json.gz and
// real-tokenizers.json.gz as GGUF keys, and writes test/golden/llama-cpp-encodings.json: by vocabulary, the texts for which
// its ids are not the reference's (by index), and its ids for them. Every other text has the reference's ids.
//
// Usage: node --import tsx run_llama_cpp_tokenizers.mjs FOLDER_WITH_NODE_LLAMA_CPP     (README.md: how to install it)

import { readFile, writeFile } from 'node:fs/promises';
import { gunzipSync } from 'node:zlib';
import { toGgufKeys } from '../golden/tokenizer-keys.ts';
import { writeGguf } from '../unit/checkpoint/gguf-writer.ts';
import { readInstallFolder, withLlama, withModel } from './llama_cpp.mjs';

const GOLDEN = new URL('../golden/', import.meta.url);

async function readGolden(file) {
  return JSON.parse(gunzipSync(await readFile(new URL(file, GOLDEN))).toString());
}

/** A file with a vocabulary and no tensors. */
function writeVocabulary({ model, pre, tokens, scores, tokenTypes, merges, addSpacePrefix }) {
  const array = (name, type, values) => (values ? [[`tokenizer.ggml.${name}`, 'array', type, values]] : []);
  const count = (name, value) => [`llama.${name}`, 'u32', value];
  return writeGguf({
    entries: [
      ['general.architecture', 'string', 'llama'],
      count('context_length', 512),
      count('embedding_length', 32),
      count('block_count', 1),
      count('feed_forward_length', 32),
      count('attention.head_count', 1),
      ['llama.attention.layer_norm_rms_epsilon', 'f32', 1e-5],
      ['tokenizer.ggml.model', 'string', model],
      ['tokenizer.ggml.pre', 'string', pre],
      ['tokenizer.ggml.add_space_prefix', 'bool', addSpacePrefix],
      ['tokenizer.ggml.add_bos_token', 'bool', false],
      ...array('tokens', 'string', tokens),
      ...array('scores', 'f32', scores),
      ...array('token_type', 'i32', tokenTypes ?? tokens.map(() => 1)),
      ...array('merges', 'string', merges),
    ],
  });
}

/** Texts whose ids are others than the reference's. */
async function compare(llama, folder, name, keys, texts, reference) {
  const encode = (loaded) => texts.map((text) => [...loaded.tokenize(text, false)]);
  const ids = await withModel(llama, folder, 'vocabulary', writeVocabulary(keys), encode, { vocabOnly: true });
  const others = ids.flatMap((own, i) => (JSON.stringify(own) === JSON.stringify(reference[i]) ? [] : [[i, own]]));
  console.error(name, `${others.length} of ${texts.length} texts otherwise`);
  return Object.fromEntries(others);
}

await withLlama(readInstallFolder(), async (llama, folder) => {
  const made = await readGolden('encodings.json.gz');
  const real = await readGolden('real-tokenizers.json.gz');
  const byteLevel = { model: 'gpt2', scores: null, tokenTypes: null, addSpacePrefix: false, ...made.byteLevel };
  const sentencePiece = { model: 'llama', pre: 'default', merges: null, addSpacePrefix: true, ...made.sentencePiece };
  const result = { llamaCpp: llama.llamaCppRelease.release, made: {}, real: {} };
  for (const [pre, ids] of Object.entries(made.byteLevel.ids)) {
    result.made[pre] = await compare(llama, folder, pre, { ...byteLevel, pre }, made.texts, ids);
  }
  result.made.llama = await compare(llama, folder, 'llama', sentencePiece, made.texts, made.sentencePiece.ids);
  for (const [name, checkpoint] of Object.entries(real.models)) {
    result.real[name] = await compare(llama, folder, name, toGgufKeys(checkpoint), real.texts, checkpoint.ids);
  }
  await writeFile(new URL('llama-cpp-encodings.json', GOLDEN), `${JSON.stringify(result)}\n`);
});
