"""Makes the golden loss of an embedded model: transformers on the dequantised GGUF weights, teacher-forced.

Usage: python make_perplexity.py MODEL.gguf                     writes test/golden/perplexity.json
       python make_perplexity.py MODEL.gguf FILE.jsonl TOKENS   prints the loss of another file's first documents
"""

import gzip
import hashlib
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from byte_level import tokenizer_from_gguf
from olmoe_gguf import Oracle

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
DOCUMENTS, TEXT = "perplexity.jsonl", "perplexity.txt"
SHORT_CONTEXT = 32  # tokens; the text is longer, so that it has several windows


def read_documents(path: Path) -> list[dict]:
    """JSON Lines, gzipped where the name says so."""
    packed = path.read_bytes()
    text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode()
    return [json.loads(line) for line in text.removesuffix("\n").split("\n")]


def encode(oracle: Oracle, tokenizer: Tokenizer, document: dict) -> list[int]:
    """Token ids of a document by the model's chat template, without generation prompt."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(oracle.fields["tokenizer.chat_template"])
    rendered = template.render(messages=document["messages"], add_generation_prompt=False)
    return tokenizer.encode(rendered, add_special_tokens=False).ids


def score(oracle: Oracle, token_ids: list[int], context: int) -> tuple[int, float]:
    """Scored tokens and their nll in nats, in consecutive windows; each window's first token is not scored."""
    tokens, nll = 0, 0.0
    for start in range(0, len(token_ids), context):
        window = token_ids[start : start + context]
        if len(window) < 2:
            continue
        logprobs = oracle.run(window)[:-1].double().log_softmax(-1)
        nll -= logprobs.gather(1, torch.tensor(window[1:])[:, None]).sum().item()
        tokens += len(window) - 1
    return tokens, nll


def describe(tokens: int, nll: float, size: int) -> dict:
    """The fields of `npm run perplexity -- --json`."""
    bits = nll / math.log(2) / size
    return {
        "tokens": tokens,
        "nll": nll,
        "bytes": size,
        "bitsPerByte": bits,
        "perplexity": math.exp(nll / tokens),
    }


def measure(oracle: Oracle, documents: Iterable[dict], context: int, max_tokens: float = math.inf) -> dict:
    """Loss of the documents up to the one that reaches `max_tokens`, in all and by source."""
    tokenizer = tokenizer_from_gguf(oracle.fields)
    sums: dict[str, tuple[int, float, int]] = {}
    for document in documents:
        name = document["source"].split("/")[0]
        tokens, nll, size = sums.get(name, (0, 0.0, 0))
        more_tokens, more_nll = score(oracle, encode(oracle, tokenizer, document), context)
        contents = sum(len(message["content"].encode()) for message in document["messages"])
        sums[name] = (tokens + more_tokens, nll + more_nll, size + contents)
        if sum(one[0] for one in sums.values()) >= max_tokens:
            break
    total = [sum(column) for column in zip(*sums.values(), strict=True)]
    return {**describe(*total), "sources": {name: describe(*one) for name, one in sums.items()}}


def encode_text(oracle: Oracle, text: str) -> list[int]:
    """Token ids of a bare text: no special token is parsed, BOS only where the file says so."""
    tokenizer = tokenizer_from_gguf(oracle.fields)
    tokenizer.encode_special_tokens = True
    bos = [oracle.fields["tokenizer.ggml.bos_token_id"]] if oracle.fields.get("tokenizer.ggml.add_bos_token") else []
    return bos + tokenizer.encode(text, add_special_tokens=False).ids


def make_golden(path: Path, oracle: Oracle) -> dict:
    """Loss of the repository's own documents with the model's context, and of its text with a short one."""
    text = (GOLDEN / TEXT).read_bytes()
    text_loss = describe(*score(oracle, encode_text(oracle, text.decode()), SHORT_CONTEXT), len(text))
    return {
        "name": oracle.fields["general.name"],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "documents": {
            "file": DOCUMENTS,
            **measure(oracle, read_documents(GOLDEN / DOCUMENTS), oracle.config.max_position_embeddings),
        },
        "text": {"file": TEXT, "context": SHORT_CONTEXT, **text_loss},
    }


def main(path: Path, file: str | None = None, max_tokens: str = "inf") -> None:
    """Writes the golden file, or prints the loss of `file`."""
    oracle = Oracle(path)
    if file is not None:
        documents = read_documents(Path(file))
        print(json.dumps(measure(oracle, documents, oracle.config.max_position_embeddings, float(max_tokens))))
        return
    (GOLDEN / "perplexity.json").write_text(json.dumps(make_golden(path, oracle), indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 4):
        sys.exit("Usage: python make_perplexity.py MODEL.gguf [FILE.jsonl TOKENS]")
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), *sys.argv[2:])
