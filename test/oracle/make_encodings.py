"""Writes test/golden/encodings.json.gz: tokenizers as GGUF keys, with the ids of hard text by reference tokenizers.

- `embedded`: the default model's own keys (not repeated here), by the tokenizers package.
- `byteLevel`: one vocabulary whose merges cross every word boundary, by each pre-tokenizer, by the tokenizers package.
- `sentencePiece`: a vocabulary trained and applied by the sentencepiece package.

Run: python test/oracle/make_encodings.py   (packages: test/oracle/requirements.txt)
"""

import gzip
import io
import json
from pathlib import Path

import sentencepiece
from gguf import GGUFReader
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from byte_level import tokenizer_from_gguf
from hard_text import LINES, random_lines

ROOT = Path(__file__).parents[2]
TEXTS = LINES + random_lines(150)
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
CL100K = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    """What a pattern matches, and what lies between, as words."""
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def words() -> pre_tokenizers.PreTokenizer:
    """GPT-2's words, by the package's own pattern."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def whole() -> pre_tokenizers.PreTokenizer:
    """Bytes to characters, without a split."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


PRE_TOKENIZERS = {
    "gpt-2": (None, [words()], False),
    "olmo": (normalizers.NFC(), [words()], False),
    "llama-bpe": (None, [split(CL100K % "{1,3}"), whole()], True),
    "dbrx": (None, [split(CL100K % "{1,3}"), whole()], False),
    "qwen2": (normalizers.NFC(), [split(CL100K % ""), whole()], False),
    "starcoder": (None, [pre_tokenizers.Digits(individual_digits=True), words()], False),
    "default": (
        None,
        [
            split(r"[\p{P}\$\+<=>\^~\|]+"),
            split(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"),
            split(r"\p{N}+"),
            split("[0-9][0-9][0-9]"),
            whole(),
        ],
        False,
    ),
}


def make_embedded() -> list[list[int]]:
    """Ids by the default model's tokenizer, special tokens parsed."""
    reader = GGUFReader(ROOT / "public/models/webmoe-chat-22m-Q4_0.gguf")
    fields = {key: field.contents() for key, field in reader.fields.items() if key.startswith("tokenizer.")}
    tokenizer = tokenizer_from_gguf(fields)
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]


def make_byte_level() -> dict:
    """A vocabulary trained on whole lines, and ids by every pre-tokenizer."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = whole()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(
        [piece for text in TEXTS for piece in (text, text[1:], text[2:])],
        trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, max_token_length=8, show_progress=False),
    )
    model = json.loads(trained.to_str())["model"]
    # Tokens that no merge makes: only a tokenizer that ignores merges finds them.
    for word in ("word", "\u0120xylophone", "\u0120LEFT", "nested"):
        model["vocab"].setdefault(word, len(model["vocab"]))
    unmade = set(model["vocab"]) - {left + right for left, right in model["merges"]} - set(alphabet)
    assert unmade, "every word is made by merges"
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    ids = {}
    for pre, (normalizer, steps, ignore_merges) in PRE_TOKENIZERS.items():
        merges = [tuple(merge) for merge in model["merges"]]
        tokenizer = Tokenizer(models.BPE(model["vocab"], merges, ignore_merges=ignore_merges))
        if normalizer:
            tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
        ids[pre] = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    return {"tokens": tokens, "merges": [" ".join(merge) for merge in model["merges"]], "ids": ids}


def make_sentence_piece() -> dict:
    """A BPE vocabulary with byte fallback, and ids, by sentencepiece."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in TEXTS for line in text.split("\n") if line]),
        model_writer=model,
        model_type="bpe",
        vocab_size=1300,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    count = range(processor.vocab_size())
    kinds = {2: processor.IsUnknown, 3: processor.IsControl, 6: processor.IsByte}
    types = [next((kind for kind, test in kinds.items() if test(i)), 1) for i in count]
    return {
        "tokens": [processor.IdToPiece(i) for i in count],
        "scores": [processor.GetScore(i) for i in count],
        "tokenTypes": types,
        "bosId": processor.bos_id(),
        "endIds": [processor.eos_id()],
        "unknownId": processor.unk_id(),
        "ids": [processor.encode(text) for text in TEXTS],
    }


golden = {
    "texts": TEXTS,
    "embedded": make_embedded(),
    "byteLevel": make_byte_level(),
    "sentencePiece": make_sentence_piece(),
}
data = json.dumps(golden, ensure_ascii=True, separators=(",", ":")).encode()
with (ROOT / "test/golden/encodings.json.gz").open("wb") as file:
    file.write(gzip.compress(data, mtime=0))
