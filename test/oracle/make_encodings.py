"""Writes test/golden/encodings.json.gz: tokenizers as GGUF keys, with the ids of hard text by reference tokenizers.

- `embedded`: the default model's own keys (not repeated here), by the tokenizers package.
- `byteLevel`: one vocabulary whose merges cross every word boundary, by each pre-tokenizer, by the tokenizers package;
  `rules` has what the package writes of each into a tokenizer.json.
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


CASED = (
    r"A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf"
    r"\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f"
    r"\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    r"\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b"
    r"\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57"
    r"\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe"
    r"\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc"
    r"\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126"
    r"\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e"
    r"\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3"
    r"\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06"
    r"\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2"
    r"\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
).encode().decode("unicode_escape")
DEEPSEEK_LLM = [
    r"[\r\n]",
    rf"\s?[{CASED}]+",
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
    r"\s+$",
    "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
]
DEEPSEEK_V3 = [
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
]


def o200k(contractions: str, digits: str) -> str:
    """The pattern of gpt-4o and its kin."""
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    start = r"[^\r\n\p{L}\p{N}]?"
    words = f"{start}{upper}*{lower}+{contractions}|{start}{upper}+{lower}*{contractions}"
    return words + rf"|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


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
    "glm4": (None, [split(CL100K % "{1,3}"), whole()], False),
    "lfm2": (None, [split(CL100K % "{1,3}"), whole()], True),
    "hunyuan": (normalizers.NFC(), [split(CL100K % ""), whole()], False),
    "gpt-4o": (None, [split(o200k(CONTRACTIONS + "?", "{1,3}")), whole()], False),
    "tekken": (None, [split(o200k("", "")), whole()], True),
    "deepseek-llm": (None, [*map(split, DEEPSEEK_LLM), pre_tokenizers.Digits(individual_digits=True), whole()], False),
    "deepseek-v3": (None, [*map(split, DEEPSEEK_V3), whole()], False),
    "refact": (None, [pre_tokenizers.Digits(individual_digits=True), words()], False),
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
    ids, rules = {}, {}
    for pre, (normalizer, steps, ignore_merges) in PRE_TOKENIZERS.items():
        merges = [tuple(merge) for merge in model["merges"]]
        tokenizer = Tokenizer(models.BPE(model["vocab"], merges, ignore_merges=ignore_merges))
        if normalizer:
            tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
        ids[pre] = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        written = json.loads(tokenizer.to_str())
        rules[pre] = {key: written[key] for key in ("normalizer", "pre_tokenizer")} | {"ignore_merges": ignore_merges}
    return {"tokens": tokens, "merges": [" ".join(merge) for merge in model["merges"]], "ids": ids, "rules": rules}


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
