"""Trains the embedded model: from scratch, or on from given weights (`--init`).

Length is given in minutes of wall clock (or in steps): on a shared machine the speed cannot be
foretold, but the learning rate must reach zero. Time the process spends stopped counts as spent.
Interrupted runs continue from `--out`/checkpoint.pt when the same command is given again.
"""

import argparse
import csv
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from tokenizers import Tokenizer

import olmoe
from corpus import PAD, TokenizedCorpus, fill_batch, load_corpus, pack_epoch
from export import export_huggingface
from gguf_weights import dequantized
from tails import in_answers, tail_weights
from unrepeat import Repetition, clause_ends, unrepeat_loss
from weights import load_huggingface

COLUMNS = [
    "step",
    "seconds",
    "tokens",
    "window",
    "lr",
    "loss",
    "unrepeat",
    "balance",
    "z",
    "largest_share",
    "smallest_share",
    "grad_norm",
    "tokens_per_second",
    "valid_bits_per_byte",
]


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--corpus", type=Path, required=True, help="folder with train.jsonl.gz and valid.jsonl.gz")
    add("--tokenizer", type=Path, required=True, help="tokenizer.json of train_tokenizer.py")
    add("--out", type=Path, required=True, help="folder for checkpoint, metrics and model")
    add("--init", type=Path, help="folder with config.json and model.safetensors to start from")
    add("--init-gguf", type=Path, help="start from this file's weights instead of the folder's")
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
    add("--unrepeat-share", type=float, default=0.0, help="share of a batch's windows: unrepeat.py")
    add("--unrepeat-from", type=float, default=0.75, help="share of the run where that begins")
    add("--unrepeat-weight", type=float, default=1.0)
    add(
        "--unrepeat-decay",
        type=float,
        default=0.5,
        help="wanted chance of a copy / of the one before",
    )
    add("--unrepeat-replies", type=int, default=0, help="own replies decoded at a time")
    add("--unrepeat-every", type=int, default=20, help="steps after which they are decoded anew")
    add("--tail-gamma", type=float, default=0.0, help="answers keep to the likely: tails.py")
    add("--tail-floor", type=float, default=0.25, help="share of the plain loss that stays")
    add("--tail-from", type=float, default=0.75, help="share of the run where that begins")
    add("--layers", type=int, default=6)
    add("--seed", type=int, default=1)
    add("--checkpoint-minutes", type=float, default=5)
    add("--valid-every", type=int, default=100)
    add("--threads", type=int, default=os.cpu_count())
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--no-compile", action="store_true")
    arguments = parser.parse_args(argv)
    if (arguments.minutes is None) == (arguments.steps is None):
        parser.error("give either --minutes or --steps")
    if arguments.init_gguf and not arguments.init:
        parser.error("--init-gguf needs --init, a folder with the file's config.json")
    if not 0 <= arguments.user_weight <= 1:
        parser.error("--user-weight must lie in 0..1: assistant turns weigh at least as much")
    if not 0 <= arguments.unrepeat_share < 1 or not 0 <= arguments.unrepeat_decay < 1:
        parser.error("--unrepeat-share and --unrepeat-decay must lie in 0..1, 1 left out")
    if not 0 <= arguments.tail_gamma < 1 or not 0 <= arguments.tail_floor <= 1:
        parser.error("--tail-gamma and --tail-floor must lie in 0..1, a gamma of 1 left out")
    return arguments


def parse_shares(items: list[str]) -> dict[str, float]:
    """["DOMAIN=NUMBER", ...] -> by domain."""
    return {domain: float(number) for domain, number in (item.split("=") for item in items)}


class Batches:
    """Endless packed windows in a resumable order."""

    def __init__(self, corpus: TokenizedCorpus, arguments: argparse.Namespace):
        self.corpus, self.arguments = corpus, arguments
        self.repeats = parse_shares(arguments.repeat)
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

    def next(self, window: int, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Inputs, targets, weights, each [count, window]."""
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


def learning_rate(step: int, progress: float, arguments: argparse.Namespace) -> float:
    """Cosine to zero at progress 1, times a linear warm-up in steps.

    The warm-up counts steps, not time: the first minutes may go into compiling.
    """
    warmup = min(1.0, (step + 1) / arguments.warmup_steps)
    return arguments.lr * warmup * 0.5 * (1 + math.cos(math.pi * progress))


def build_model(arguments: argparse.Namespace, tokenizer: Tokenizer) -> olmoe.Olmoe:
    if arguments.init:
        with dequantized(arguments.init, arguments.init_gguf) as folder:
            return load_huggingface(folder)
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


def open_metrics(path: Path, step: int) -> TextIO:
    """The CSV, ready to append: rows after `step`, from a run cut off later, are dropped."""
    rows = list(csv.reader(path.open(newline=""))) if step and path.exists() else [COLUMNS]
    file = path.open("w", newline="")
    csv.writer(file).writerows([rows[0], *(row for row in rows[1:] if int(row[0]) <= step)])
    return file


class Trainer:
    """Everything a checkpoint holds, and the clock."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.tokenizer = tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
        self.train, self.valid = (
            load_corpus(
                arguments.corpus / f"{name}.jsonl.gz", tokenizer, arguments.out / f"{name}.npz"
            )
            for name in ("train", "valid")
        )
        self.byte_lengths = token_byte_lengths(tokenizer)
        self.model = build_model(arguments, tokenizer).to(arguments.device)
        self.optimizer = build_optimizer(self.model, arguments)
        self.batches = Batches(self.train, arguments)
        self.repetition = Repetition(self.train, clause_ends(tokenizer), self.batches.repeats)
        self.step, self.tokens = 0, 0
        self.seconds_before = 0.0  # spent by earlier processes of this run
        self.began = time.monotonic()
        self.checkpoint = arguments.out / "checkpoint.pt"

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.began

    @property
    def progress(self) -> float:
        """Share of the run that is done; it ends at 1."""
        if self.arguments.steps:
            return self.step / self.arguments.steps
        return min(1.0, self.seconds / (60 * self.arguments.minutes))

    def restore(self) -> None:
        """Goes on from the checkpoint when there is one."""
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, map_location=self.arguments.device)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches.restore(state["batches"])
        self.repetition.take(state.get("own_replies", []))
        self.step, self.tokens = state["step"], state["tokens"]
        self.seconds_before = state["seconds"]
        print(f"resumed at step {self.step}, {self.seconds / 60:.1f} minutes", flush=True)

    def save(self) -> None:
        """Writes beside and renames: a run cut off while writing keeps the previous checkpoint."""
        partial = self.checkpoint.with_suffix(".partial")
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "batches": self.batches.state(),
            "own_replies": self.repetition.replies,
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
        }
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def begin_step(self) -> float:
        """Sets and returns the learning rate; gradients begin at zero."""
        rate = learning_rate(self.step, self.progress, self.arguments)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        return rate

    def end_step(self) -> float:
        """Moves the weights by their gradients, whose norm it returns, clipped to 1."""
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0))
        if not math.isfinite(norm):
            raise FloatingPointError(f"gradient norm {norm} at step {self.step + 1}")
        self.optimizer.step()
        self.step += 1
        return norm

    def routing_loss(self, losses: olmoe.Losses) -> torch.Tensor:
        arguments = self.arguments
        return arguments.balance_weight * losses.balance + arguments.z_weight * losses.z

    def train_step(self) -> dict:
        """One batch; returns the row of metrics."""
        arguments, progress, began = self.arguments, self.progress, time.monotonic()
        long = progress >= arguments.long_from
        window = arguments.long_window if long else arguments.window
        rows = arguments.batch_tokens // window
        repeating = progress >= arguments.unrepeat_from and round(arguments.unrepeat_share * rows)
        inputs, targets, weights = self.batches.next(window, rows - repeating)
        rate = self.begin_step()
        valid = (inputs != PAD).float()
        periods = None
        if repeating:
            if arguments.unrepeat_replies and self.step % arguments.unrepeat_every == 0:
                seed = f"{arguments.seed} own {self.step}"
                self.repetition.decode(self.model, seed, arguments.unrepeat_replies)
            # Routing is balanced over real text alone: `valid` is 0 on made-up windows.
            made = self.repetition.windows(f"{arguments.seed} {self.step}", repeating, window)
            *more, periods = (torch.from_numpy(part).to(arguments.device) for part in made)
            inputs, targets, weights = (
                torch.cat(pair) for pair in zip((inputs, targets, weights), more, strict=True)
            )
            valid = torch.cat((valid, torch.zeros_like(more[2])))
        losses = self.model(inputs, targets, valid)
        plain = losses.token * weights
        loss = plain.sum() / weights.sum()
        learnt = loss
        if arguments.tail_gamma and progress >= arguments.tail_from:
            tail = tail_weights(losses.token, arguments.tail_gamma, arguments.tail_floor)
            learnt = torch.where(in_answers(inputs), plain * tail, plain).sum() / weights.sum()
        unrepeat = torch.zeros(())
        if periods is not None:
            unrepeat = unrepeat_loss(
                losses.token[rows - repeating :], periods, arguments.unrepeat_decay
            )
        routing = self.routing_loss(losses)
        (learnt + arguments.unrepeat_weight * unrepeat + routing).backward()
        norm = self.end_step()
        self.tokens += int((weights > 0).sum())
        shares = losses.load * self.model.config.num_experts
        values = (
            self.step,
            round(self.seconds, 1),
            self.tokens,
            window,
            f"{rate:.3g}",
            round(float(loss.detach()), 4),
            round(float(unrepeat.detach()), 4),
            round(float(losses.balance.detach()), 4),
            round(float(losses.z.detach()), 4),
            round(float(shares.max()), 2),
            round(float(shares.min()), 2),
            round(norm, 3),
            round(inputs.numel() / (time.monotonic() - began)),
            "",
        )
        return dict(zip(COLUMNS, values, strict=True))

    @torch.no_grad()
    def validate(self, window: int, batches: int = 4) -> float:
        """Bits per byte on the same few packed windows: a curve, not the score of evaluate.py."""
        nats, size = 0.0, 0
        windows = pack_epoch(self.valid, window, 0, {})
        rows = self.arguments.batch_tokens // window
        for start in range(0, min(batches, len(windows) // rows) * rows, rows):
            batch = fill_batch(self.valid, windows[start : start + rows], window, 1.0)
            inputs, targets, weights = (
                torch.from_numpy(array).to(self.arguments.device) for array in batch
            )
            losses = self.model(inputs, targets, (inputs != PAD).float())
            nats += float((losses.token * weights).sum())
            size += int((self.byte_lengths[batch[1]] * (batch[2] > 0)).sum())
        return nats / math.log(2) / size

    def run(self) -> None:
        """Trains to the end, or until SIGTERM, which saves first."""
        arguments = self.arguments
        stop_requested = []
        signal.signal(signal.SIGTERM, lambda *_: stop_requested.append(True))
        self.restore()
        metrics = open_metrics(arguments.out / "metrics.csv", self.step)
        writer = csv.DictWriter(metrics, COLUMNS)
        saved = time.monotonic()
        while self.progress < 1:
            row = self.train_step()
            if self.step % arguments.valid_every == 0:
                row["valid_bits_per_byte"] = round(self.validate(row["window"]), 4)
            writer.writerow(row)
            metrics.flush()
            if self.step % 10 == 0:
                print(row, flush=True)
            if stop_requested or time.monotonic() - saved > 60 * arguments.checkpoint_minutes:
                self.save()
                saved = time.monotonic()
            if stop_requested:
                sys.exit(f"stopped at step {self.step}; the same command continues")
        self.save()
        minutes = self.seconds / 60
        print(f"done: {self.step} steps, {self.tokens} tokens, {minutes:.1f} minutes", flush=True)


def create_trainer(arguments: argparse.Namespace) -> Trainer:
    """PyTorch as the arguments want it, the folder for results, and what trains into it."""
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    torch.set_float32_matmul_precision("high")
    if not arguments.no_compile:
        olmoe.compile_kernels()
    arguments.out.mkdir(parents=True, exist_ok=True)
    return Trainer(arguments)


def main() -> None:
    arguments = parse_arguments()
    trainer = create_trainer(arguments)
    trainer.run()
    export_huggingface(trainer.model, arguments.tokenizer, arguments.out / "model")


if __name__ == "__main__":
    main()
