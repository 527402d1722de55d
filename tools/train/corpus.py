"""The corpus as token windows: reads chat documents, tokenizes them, packs them.

Owns nothing about the model. A document is a JSON line
{"source": str, "messages": [{"role": str, "content": str}, ...]}.
"""

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

BOS, PAD, SYSTEM, USER, ASSISTANT, END = range(6)
SPECIAL_TOKENS = ["<|bos|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
ROLE_TOKENS = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}

# Renders exactly what `tokenize_documents` builds from token ids.
CHAT_TEMPLATE = (
    "{{ '<|bos|>' }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def read_documents(path: Path) -> Iterator[dict]:
    """Yields the documents of a .jsonl or .jsonl.gz file in file order."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def domain_of(source: str) -> str:
    """`stories/heidi` -> `stories`: the part that metrics are grouped by."""
    return source.split("/")[0]


@dataclass
class TokenizedCorpus:
    """All documents end to end in one array."""

    tokens: np.ndarray  # [total] uint16
    from_user: np.ndarray  # [total] bool: the token belongs to a user turn, its marks included
    starts: np.ndarray  # [documents + 1] int64: offsets into `tokens`
    domains: np.ndarray  # [documents] int64: index into `domain_names`
    domain_names: list[str]


def tokenize_documents(path: Path, tokenizer: Tokenizer, batch: int = 2000) -> TokenizedCorpus:
    """Renders every document by the chat template, as token ids."""
    tokens, from_user, starts, domains, names = [], [], [0], [], []

    def flush(documents: list[dict]) -> None:
        contents = [m["content"] for d in documents for m in d["messages"]]
        encoded = iter(tokenizer.encode_batch_fast(contents, add_special_tokens=False))
        for document in documents:
            ids, user = [BOS], [False]
            for message in document["messages"]:
                turn = [ROLE_TOKENS[message["role"]], *next(encoded).ids, END]
                ids += turn
                user += [message["role"] == "user"] * len(turn)
            tokens.append(np.array(ids, np.uint16))
            from_user.append(np.array(user, bool))
            starts.append(starts[-1] + len(ids))
            domain = domain_of(document["source"])
            if domain not in names:
                names.append(domain)
            domains.append(names.index(domain))

    pending = []
    for document in read_documents(path):
        pending.append(document)
        if len(pending) == batch:
            flush(pending)
            pending = []
    flush(pending)
    return TokenizedCorpus(
        np.concatenate(tokens),
        np.concatenate(from_user),
        np.array(starts),
        np.array(domains),
        names,
    )


def load_corpus(path: Path, tokenizer: Tokenizer, cache: Path) -> TokenizedCorpus:
    """`tokenize_documents`, kept in `cache` because it takes half a minute."""
    if cache.exists():
        stored = np.load(cache)
        fields = [stored[name] for name in ("tokens", "from_user", "starts", "domains")]
        return TokenizedCorpus(*fields, [str(name) for name in stored["domain_names"]])
    corpus = tokenize_documents(path, tokenizer)
    np.savez(
        cache,
        tokens=corpus.tokens,
        from_user=corpus.from_user,
        starts=corpus.starts,
        domains=corpus.domains,
        domain_names=np.array(corpus.domain_names),
    )
    return corpus


def pack_epoch(
    corpus: TokenizedCorpus,
    window: int,
    seed: int,
    repeats: dict[str, float],
    open_windows: int = 64,
) -> list[list[tuple[int, int]]]:
    """One pass over the documents as windows of `window` + 1 tokens (inputs and shifted targets).

    Documents come in random order; each goes whole into the fullest open window that still takes
    it, so that every document starts with its own beginning in view. Only documents longer than
    a window are cut. `repeats` gives a domain's copies per pass (1.5: every other document twice).
    Returns spans (start, end) into `corpus.tokens` per window, in random order.
    """
    rng = random.Random(seed)
    order = []
    for document, domain in enumerate(corpus.domains):
        copies = repeats.get(corpus.domain_names[domain], 1.0)
        order += [document] * (int(copies) + (rng.random() < copies % 1))
    rng.shuffle(order)
    capacity = window + 1
    closed: list[list[tuple[int, int]]] = []
    open_: list[tuple[int, list[tuple[int, int]]]] = []  # (tokens left, spans)
    for document in order:
        start, end = int(corpus.starts[document]), int(corpus.starts[document + 1])
        while end - start > capacity:
            closed.append([(start, start + capacity)])
            start += window  # the last token is the next piece's first input
        length = end - start
        fitting = [i for i, (left, _) in enumerate(open_) if left >= length]
        if fitting:
            best = min(fitting, key=lambda i: open_[i][0])
            left, spans = open_.pop(best)
        else:
            left, spans = capacity, []
            if len(open_) == open_windows:
                closed.append(open_.pop(min(range(open_windows), key=lambda i: open_[i][0]))[1])
        spans.append((start, end))
        open_.append((left - length, spans))
    closed += [spans for _, spans in open_]
    rng.shuffle(closed)
    return closed


def fill_batch(
    corpus: TokenizedCorpus, windows: list[list[tuple[int, int]]], window: int, user_weight: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs [batch, window] int64, targets [batch, window] int64, weights [batch, window] f32.

    Padding weighs nothing, nor does a piece's first token: BOS is never predicted in use, and the
    first token of a continued document was the last target of the piece before.
    """
    tokens = np.full((len(windows), window + 1), PAD, np.int64)
    weights = np.zeros((len(windows), window + 1), np.float32)
    for row, spans in enumerate(windows):
        at = 0
        for start, end in spans:
            piece = slice(at, at + end - start)
            tokens[row, piece] = corpus.tokens[start:end]
            weights[row, piece] = np.where(corpus.from_user[start:end], user_weight, 1.0)
            weights[row, at] = 0.0
            at += end - start
    return tokens[:, :-1], tokens[:, 1:], weights[:, 1:]
