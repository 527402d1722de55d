"""Trains the embedded model: from scratch, or on from given weights (`--init`).

Length is given in minutes of wall clock (or in steps): on a shared machine the speed cannot be
foretold, but the learning rate must reach zero. Time the process spends stopped counts as spent.
Interrupted runs continue from `--out`/checkpoint.pt when the same command is given again.
"""

import argparse
import csv
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

import olmoe
from corpus import PAD, TokenizedCorpus, fill_batch, load_corpus, pack_epoch
from export import export_huggingface
from weights import load_huggingface

COLUMNS = (
    "step seconds tokens window lr loss balance z largest_share smallest_share "
    "grad_norm tokens_per_second valid_bits_per_byte"
).split()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--corpus", type=Path, required=True, help="folder with train.jsonl.gz and valid.jsonl.gz")
    add("--tokenizer", type=Path, required=True, help="tokenizer.json of train_tokenizer.py")
    add("--out", type=Path, required=True, help="folder for checkpoint, metrics and model")
    add("--init", type=Path, help="folder with config.json and model.safetensors to start from")
    add("--minutes", type=float, help="length of the whole run, restarts included")
    add("--steps", type=int, help="length in steps, instead of --minutes")
    add("--batch-tokens", type=int, default=8192)
    add("--window", type=int, default=512, help="packed sequence length at first")
    add("--long-window", type=int, default=1024, help="packed sequence length later")
    add("--long-from", type=float, default=0.6, help="share of the run where that begins")
    add("--lr", type=float, default=2.5e-3)
    add("--warmup-steps", type=int, default=50)
    add("--weight-decay", type=float, default=0.1)
    add("--balance-weight", type=float, default=0.01)
    add("--z-weight", type=float, default=1e-3)
    add("--user-weight", type=float, default=1.0, help="loss of user turns; assistant turns have 1")
    add("--repeat", action="append", default=[], metavar="DOMAIN=COPIES", help="per epoch")
    add("--layers", type=int, default=6)
    add("--seed", type=int, default=1)
    add("--checkpoint-minutes", type=float, default=5)
    add("--valid-every", type=int, default=100)
    add("--threads", type=int, default=os.cpu_count())
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--no-compile", action="store_true")
    arguments = parser.parse_args()
    if (arguments.minutes is None) == (arguments.steps is None):
        parser.error("give either --minutes or --steps")
    if not 0 <= arguments.user_weight <= 1:
        parser.error("--user-weight must lie in 0..1: assistant turns weigh at least as much")
    return arguments


class Batches:
    """Endless packed windows in a resumable order."""

    def __init__(self, corpus: TokenizedCorpus, arguments: argparse.Namespace):
        self.corpus, self.arguments = corpus, arguments
        self.repeats = {}
        for item in arguments.repeat:
            domain, copies = item.split("=")
            self.repeats[domain] = float(copies)
        self.window, self.epoch, self.used = 0, -1, 0
        self.windows: list = []

    def state(self) -> dict:
        return {"window": self.window, "epoch": self.epoch, "used": self.used}

    def restore(self, state: dict) -> None:
        self.window, self.epoch, self.used = state["window"], state["epoch"], state["used"]
        self.pack()

    def pack(self) -> None:
        seed = self.arguments.seed * 1000 + self.epoch
        self.windows = pack_epoch(self.corpus, self.window, seed, self.repeats)

    def next(self, window: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Inputs, targets, weights, each [batch_tokens / window, window]."""
        count = self.arguments.batch_tokens // window
        if window != self.window or self.used + count > len(self.windows):
            self.window, self.epoch, self.used = window, self.epoch + 1, 0
            self.pack()
        chosen = self.windows[self.used : self.used + count]
        self.used += count
        batch = fill_batch(self.corpus, chosen, window, self.arguments.user_weight)
        return tuple(torch.from_numpy(array).to(self.arguments.device) for array in batch)


def token_byte_lengths(tokenizer: Tokenizer) -> np.ndarray:
    """[vocabulary] UTF-8 bytes per token; byte-level BPE writes one character a byte."""
    lengths = np.zeros(tokenizer.get_vocab_size(), np.int64)
    special = set(tokenizer.get_added_tokens_decoder())
    for token, index in tokenizer.get_vocab().items():
        lengths[index] = 0 if index in special else len(token)
    return lengths


def validation_batches(
    corpus: TokenizedCorpus, arguments: argparse.Namespace, window: int, batches: int = 4
) -> Iterator[tuple[torch.Tensor, ...]]:
    """The same few packed windows each time: a curve, not the final score (evaluate.py)."""
    windows = pack_epoch(corpus, window, 0, {})
    count = arguments.batch_tokens // window
    for start in range(0, min(batches, len(windows) // count) * count, count):
        batch = fill_batch(corpus, windows[start : start + count], window, 1.0)
        yield tuple(torch.from_numpy(array).to(arguments.device) for array in batch)


@torch.no_grad()
def validate(model: olmoe.Olmoe, corpus, arguments, window: int, byte_lengths) -> float:
    """Bits per byte on packed validation windows."""
    nats, size = 0.0, 0
    for inputs, targets, weights in validation_batches(corpus, arguments, window):
        losses = model(inputs, targets, (inputs != PAD).float())
        nats += float((losses.token * weights).sum())
        size += int((byte_lengths[targets.cpu().numpy()] * (weights > 0).cpu().numpy()).sum())
    return nats / math.log(2) / size


def learning_rate(step: int, progress: float, arguments: argparse.Namespace) -> float:
    """Cosine to zero at progress 1, times a linear warm-up in steps.

    The warm-up counts steps, not time: the first minutes may go into compiling.
    """
    warmup = min(1.0, (step + 1) / arguments.warmup_steps)
    return arguments.lr * warmup * 0.5 * (1 + math.cos(math.pi * progress))


def build_model(arguments: argparse.Namespace, tokenizer: Tokenizer) -> olmoe.Olmoe:
    if arguments.init:
        return load_huggingface(arguments.init)
    return olmoe.Olmoe(
        olmoe.Config(num_hidden_layers=arguments.layers, vocab_size=tokenizer.get_vocab_size())
    )


def build_optimizer(model: olmoe.Olmoe, arguments: argparse.Namespace) -> torch.optim.AdamW:
    """Decays matrices only; embedding, router and norms keep their scale."""
    decayed, kept = [], []
    for name, parameter in model.named_parameters():
        plain = parameter.ndim < 2 or "embedding" in name or "router" in name
        (kept if plain else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": arguments.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), eps=1e-9, fused=True)


def save_checkpoint(path: Path, **state) -> None:
    """Writes beside and renames: a run cut off while writing keeps the previous checkpoint."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    torch.set_float32_matmul_precision("high")
    if not arguments.no_compile:
        olmoe.compile_kernels()
    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
    train, valid = (
        load_corpus(
            arguments.corpus / f"{name}.jsonl.gz", tokenizer, arguments.out / f"{name}.npz"
        )
        for name in ("train", "valid")
    )
    byte_lengths = token_byte_lengths(tokenizer)
    model = build_model(arguments, tokenizer).to(arguments.device)
    optimizer = build_optimizer(model, arguments)
    batches = Batches(train, arguments)
    checkpoint = arguments.out / "checkpoint.pt"
    step, tokens, spent_before = 0, 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=arguments.device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        batches.restore(state["batches"])
        step, tokens, spent_before = state["step"], state["tokens"], state["seconds"]
        print(f"resumed at step {step}, {spent_before / 60:.1f} minutes", flush=True)
    else:
        with open(arguments.out / "metrics.csv", "w", newline="") as file:
            csv.writer(file).writerow(COLUMNS)
    metrics = open(arguments.out / "metrics.csv", "a", newline="")
    writer = csv.writer(metrics)
    began = time.monotonic()
    saved, step_began = began, began

    def spent() -> float:
        return spent_before + time.monotonic() - began

    def save() -> None:
        save_checkpoint(
            checkpoint,
            model=model.state_dict(),
            optimizer=optimizer.state_dict(),
            batches=batches.state(),
            step=step,
            tokens=tokens,
            seconds=spent(),
        )

    while True:
        if arguments.steps:
            progress = step / arguments.steps
        else:
            progress = spent() / (60 * arguments.minutes)
        if progress >= 1:
            break
        window = arguments.long_window if progress >= arguments.long_from else arguments.window
        inputs, targets, weights = batches.next(window)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, progress, arguments)
        losses = model(inputs, targets, (inputs != PAD).float())
        loss = (losses.token * weights).sum() / weights.sum()
        total = (
            loss + arguments.balance_weight * losses.balance + arguments.z_weight * losses.z
        )
        optimizer.zero_grad()
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if not math.isfinite(float(norm)):
            raise FloatingPointError(f"gradient norm {float(norm)} at step {step + 1}")
        optimizer.step()
        step, tokens = step + 1, tokens + int((weights > 0).sum())
        now = time.monotonic()
        score = ""
        if step % arguments.valid_every == 0:
            score = round(validate(model, valid, arguments, window, byte_lengths), 4)
        shares = losses.load * model.config.num_experts
        row = [
            step,
            round(spent(), 1),
            tokens,
            window,
            f"{optimizer.param_groups[0]['lr']:.3g}",
            round(float(loss.detach()), 4),
            round(float(losses.balance.detach()), 4),
            round(float(losses.z.detach()), 4),
            round(float(shares.max()), 2),
            round(float(shares.min()), 2),
            round(float(norm), 3),
            round(inputs.numel() / (now - step_began)),
            score,
        ]
        writer.writerow(row)
        metrics.flush()
        if step % 10 == 0 or score:
            print(dict(zip(COLUMNS, row, strict=True)), flush=True)
        if now - saved > 60 * arguments.checkpoint_minutes:
            save()
            saved = now
        step_began = time.monotonic()
    save()
    export_huggingface(model, arguments.tokenizer, arguments.out / "model")
    print(f"done: {step} steps, {tokens} tokens, {spent() / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
