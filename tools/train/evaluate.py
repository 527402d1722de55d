"""Scores a model through transformers: bits per byte, loss by position, expert balance, chats.

Scoring follows the project's `npm run perplexity`: each document rendered by the chat template
without generation prompt, alone; longer ones in consecutive windows of the context; every token
but each window's first counts, bytes are those of the contents. A GGUF file is scored through its
dequantised weights. All sums are f32. Chats are decoded in f32 (`chats.py`).
"""

import argparse
import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from chats import count_loops, opening_prompts, sample_chats
from corpus import PAD, domain_of, read_documents
from gguf_weights import dequantized
from weights import load_huggingface

BATCH_TOKENS = 8192
POSITION_BUCKET = 128


def load_model(folder: Path, gguf_file: Path | None):
    """`OlmoeForCausalLM` in f32 with the weights of `gguf_file`, else those of `folder`."""
    with dequantized(folder, gguf_file) as weights:
        return AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).eval()


@dataclass
class Score:
    """Sums that bits per byte and perplexity are made of."""

    documents: int = 0
    tokens: int = 0
    nll: float = 0.0  # nats
    bytes: int = 0

    def report(self) -> dict:
        return {
            "documents": self.documents,
            "tokens": self.tokens,
            "nll": round(self.nll, 3),
            "bytes": self.bytes,
            "bitsPerByte": round(self.nll / math.log(2) / self.bytes, 5),
            "perplexity": round(math.exp(self.nll / self.tokens), 4),
        }


@dataclass
class Window:
    """At most `context` consecutive tokens of one document."""

    document: int
    domain: str
    ids: list[int]
    nll: np.ndarray = field(default_factory=lambda: np.zeros(0))  # [len(ids) - 1] f32


def make_windows(documents: dict[int, dict], tokenizer, context: int) -> list[Window]:
    """Documents by their index in the file."""
    windows = []
    for index, document in documents.items():
        text = tokenizer.apply_chat_template(document["messages"], tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        for start in range(0, len(ids), context):
            piece = ids[start : start + context]
            windows.append(Window(index, domain_of(document["source"]), piece))
    return windows


@torch.no_grad()
def score_windows(model, windows: list[Window]) -> torch.Tensor:
    """Fills `nll` of every window; returns the slots each expert got, [layers, experts]."""
    config = model.config
    load = torch.zeros(config.num_hidden_layers, config.num_experts)
    pending = sorted(windows, key=lambda window: len(window.ids))
    while pending:
        width = len(pending[-1].ids)
        rows = max(1, BATCH_TOKENS // width)
        batch, pending = pending[-rows:], pending[:-rows]
        ids = torch.full((len(batch), width), PAD)
        for row, window in enumerate(batch):
            ids[row, : len(window.ids)] = torch.tensor(window.ids)
        # Padding follows the text and attention is causal: it needs no mask.
        outputs = model(ids, output_router_logits=True, use_cache=False)
        logits = outputs.logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        ).view(len(batch), -1)
        for row, window in enumerate(batch):
            window.nll = loss[row, : len(window.ids) - 1].numpy()
        real = (ids != PAD).flatten()
        for layer, router in enumerate(outputs.router_logits):
            chosen = (
                router.view(-1, config.num_experts)[real].topk(config.num_experts_per_tok).indices
            )
            load[layer] += torch.bincount(chosen.flatten(), minlength=config.num_experts)
    return load


def summarize(documents: list[dict], windows: list[Window]) -> dict:
    """Overall figures and `sources`, as the perplexity command prints them."""
    total, sources = Score(), defaultdict(Score)
    for document in documents:
        size = sum(len(message["content"].encode()) for message in document["messages"])
        for score in (total, sources[domain_of(document["source"])]):
            score.documents += 1
            score.bytes += size
    for window in windows:
        for score in (total, sources[window.domain]):
            score.tokens += len(window.nll)
            score.nll += float(window.nll.sum())
    parts = {name: score.report() for name, score in sorted(sources.items())}
    return {**total.report(), "sources": parts}


def pack_stream(documents: list[Window], context: int) -> list[Window]:
    """Whole documents end to end, cut into full windows of the context."""
    stream = [token for window in documents for token in window.ids]
    return [
        Window(0, "packed", stream[start : start + context])
        for start in range(0, len(stream) - context + 1, context)
    ]


def loss_by_position(windows: list[Window], context: int) -> list[dict]:
    """Mean nats per token in buckets of positions."""
    rows = []
    for start in range(0, context, POSITION_BUCKET):
        values = [window.nll[start : start + POSITION_BUCKET] for window in windows]
        joined = np.concatenate(values)
        if joined.size:
            positions = f"{start}-{start + POSITION_BUCKET - 1}"
            mean = round(float(joined.mean()), 4)
            rows.append({"positions": positions, "tokens": joined.size, "nats": mean})
    return rows


def balance(load: torch.Tensor) -> list[dict]:
    """Per layer: most and least used expert as multiples of the even share."""
    shares = load / load.sum(1, keepdim=True) * load.shape[1]
    return [
        {
            "layer": layer,
            "largest": round(float(row.max()), 2),
            "smallest": round(float(row.min()), 2),
        }
        for layer, row in enumerate(shares)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", type=Path, required=True, help="Hugging Face folder")
    add("--gguf", type=Path, help="score these weights instead of the folder's")
    add("--file", type=Path, required=True, help="JSON Lines of documents, .gz too")
    add("--every", type=int, action="append", help="score every N-th document (repeatable)")
    add("--positions", action="store_true", help="loss by position")
    add("--chats", type=Path, help="prompts.json: replies, as `chats.SAMPLING` says")
    add("--openings", type=int, help="so many documents of each source begin chats as well")
    add("--seed", type=int, default=0)
    add("--max-tokens", type=int, default=160)
    add("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    model = load_model(arguments.model, arguments.gguf)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    context = model.config.max_position_embeddings
    selections = arguments.every or [1]
    stride = math.gcd(*selections)
    documents = dict(list(enumerate(read_documents(arguments.file)))[::stride])
    windows = make_windows(documents, tokenizer, context)
    load = score_windows(model, windows)
    report: dict = {"balance": balance(load)}
    for every in selections:
        report[f"every{every}"] = summarize(
            [document for index, document in documents.items() if index % every == 0],
            [window for window in windows if window.document % every == 0],
        )
    if arguments.positions:
        long = [window for window in windows if len(window.ids) > 768]
        packed = pack_stream(windows, context)
        score_windows(model, packed)
        report["positions"] = {
            "packed": loss_by_position(packed, context),
            "longDocuments": {"count": len(long), "buckets": loss_by_position(long, context)},
        }
    if arguments.chats or arguments.openings:
        prompts = json.loads(arguments.chats.read_text()) if arguments.chats else []
        openings = opening_prompts(arguments.file, arguments.openings or 0, prompts)
        with dequantized(arguments.model, arguments.gguf) as weights:
            replying = load_huggingface(weights, torch.float32)
        rows = sample_chats(
            replying, tokenizer, prompts + openings, arguments.seed, arguments.max_tokens
        )
        for name, chosen in (("chats", prompts), ("openings", openings)):
            chats = [row for row in rows if [row["source"], row["prompt"]] in chosen]
            report[name] = {"loops": count_loops(chats), "replies": chats}
    print(json.dumps(report, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
