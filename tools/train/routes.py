"""Routes of whole documents as a routing trace: what `generate --trace` writes, in batches.

Owns which documents are taken and the file's form (src/routing/trace.ts). Each document is a
conversation, rendered by the chat template and cut to `--max-length` tokens. f32 throughout, with
the dequantised weights of the GGUF file; sums in another order than the engine's may choose another
expert where two are equally good.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

import gguf
import torch
from tokenizers import Tokenizer

from corpus import PAD, tokenize_documents
from evaluate import load_model

BATCH_TOKENS = 8192


@torch.no_grad()
def get_routes(model, ids: torch.Tensor) -> torch.Tensor:
    """[documents, width] token ids -> [documents, width, layers, k] u8 experts in router order."""
    # Padding follows the text and attention is causal: it needs no mask. The head is left out.
    logits = model.model(ids, output_router_logits=True, use_cache=False).router_logits
    k = model.config.num_experts_per_tok
    chosen = [layer.view(*ids.shape, -1).topk(k).indices for layer in logits]
    return torch.stack(chosen, dim=2).to(torch.uint8)


def trace_documents(model, documents: list[list[int]], deadline: float):
    """Yields (document's index, routes) in batches of like length, until the time is over."""
    order = sorted(range(len(documents)), key=lambda index: len(documents[index]))
    batches, at = [], 0
    while at < len(order):
        rows = 1
        while (
            at + rows < len(order) and (rows + 1) * len(documents[order[at + rows]]) < BATCH_TOKENS
        ):
            rows += 1
        batches.append(order[at : at + rows])
        at += rows
    # Cut short, a run has documents of all lengths.
    random.Random(0).shuffle(batches)
    for batch in batches:
        if time.monotonic() > deadline:
            return
        ids = torch.full((len(batch), max(len(documents[index]) for index in batch)), PAD)
        for row, index in enumerate(batch):
            ids[row, : len(documents[index])] = torch.tensor(documents[index])
        routes = get_routes(model, ids)
        yield [(index, routes[row, : len(documents[index])]) for row, index in enumerate(batch)]


def read_model_name(path: Path) -> str:
    return gguf.GGUFReader(path).fields["general.name"].contents()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--model", type=Path, required=True, help="folder with config and tokenizer"
    )
    parser.add_argument("--gguf", type=Path, required=True, help="whose weights decide the routes")
    parser.add_argument("--file", type=Path, required=True, help=".jsonl or .jsonl.gz of documents")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=500_000)
    parser.add_argument("--max-length", type=int, default=384)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    corpus = tokenize_documents(
        arguments.file, Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    )
    order = list(range(len(corpus.starts) - 1))
    random.Random(arguments.seed).shuffle(order)
    documents, total = [], 0
    for index in order:
        start, end = corpus.starts[index], corpus.starts[index + 1]
        documents.append(corpus.tokens[start : min(end, start + arguments.max_length)].tolist())
        total += len(documents[-1])
        if total >= arguments.tokens:
            break

    model = load_model(arguments.model, arguments.gguf)
    config = model.config
    header = {
        "model": read_model_name(arguments.gguf),
        "layers": config.num_hidden_layers,
        "layerIndices": list(range(config.num_hidden_layers)),
        "experts": config.num_experts,
        "expertsPerToken": config.num_experts_per_tok,
    }
    start = time.monotonic()
    sequence = done = 0
    part = arguments.out.with_suffix(".part")
    with part.open("w") as out:
        out.write(json.dumps(header) + "\n")
        for batch in trace_documents(model, documents, start + arguments.minutes * 60):
            for index, routes in batch:
                for token, layers in zip(documents[index], routes.tolist(), strict=True):
                    line = {
                        "sequence": sequence,
                        "token": token,
                        "phase": "prefill",
                        "routes": layers,
                    }
                    out.write(json.dumps(line, separators=(",", ":")) + "\n")
                sequence += 1
                done += len(documents[index])
            print(f"{time.monotonic() - start:.0f} s: {done} of {total} tokens", file=sys.stderr)
    part.rename(arguments.out)


if __name__ == "__main__":
    main()
