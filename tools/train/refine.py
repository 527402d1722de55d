"""Refines answers that are drawn at a temperature: several to a prompt, the better made likelier.

Cross entropy never sees what a model says by itself; one word that does not follow, drawn once in
a while, and a small model is lost. Here it answers prompts of training documents as a chat would
draw them, a frozen judge (by default the model it begins as) says which of the answers to one
prompt are better, and their odds move by how much better they are than their group's mean (GRPO,
Shao et al., arXiv 2402.03300, one step of gradient for each draw). Steps on training text between
them hold bits per byte. Minutes of work, begun anew when cut off: it keeps no checkpoint.
"""

import argparse
import csv
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

import olmoe
from chats import has_loop
from corpus import ASSISTANT, END, PAD, USER, TokenizedCorpus, read_documents
from decode import decode
from export import export_huggingface
from rules import echoes, words_of, wrong_sums
from train import create_trainer, parse_shares
from train import parse_arguments as parse_training
from unrepeat import repeat_periods
from weights import load_huggingface

PROMPT_TOKENS = 64
FIRST_TURNS = 0.7  # share of the prompts that are a document's first message
USUAL_NATS = 2.0  # a word that the judge gives at least e^-2 is nothing odd
MOST_FIT = 4.0  # more of it is as good
ODD_WEIGHT, LOOP_WEIGHT, UNKNOWN_WEIGHT = 0.5, 1.0, 0.5
ECHO_WEIGHT, WRONG_WEIGHT, ENDLESS_WEIGHT, MISSING_WEIGHT = 1.0, 0.5, 0.5, 1.0
LEAST_SPREAD = 0.1  # of a group's rewards: below it answers are as good as alike
KNOWN_WORD = 3  # times that a word of the training text occurs in it
COMMON_WORDS = 200  # the most frequent ones: naming them says nothing
LONG_ENOUGH = 50  # tokens; that a document says more is no reason to
LEAST_LENGTH = 0.8  # of a document's answer
NARROW_TOKENS = 72  # prompt and answer: most rows are no longer than this
COLUMNS = [
    "step",
    "seconds",
    "lr",
    "temperature",
    "reward",
    "odd",
    "fit",
    "short",
    "loops",
    "unknown",
    "missing",
    "echo",
    "wrong",
    "endless",
    "length",
    "drawn",
    "text",
    "grad_norm",
    "valid_bits_per_byte",
]


@dataclass
class Batch:
    """Prompts with their answers as rows of one length."""

    places: Tensor  # [rows] int64: of these among all rows of a step
    inputs: Tensor  # [rows, time] int64
    targets: Tensor  # [rows, time] int64
    answers: Tensor  # [rows, time] f32: 1 where the target belongs to the answer
    valid: Tensor  # [rows, time] f32: 0 where padding

    def to(self, device: str | torch.device) -> "Batch":
        """The same there; `places` stay with the lists that they index."""
        parts = (self.inputs, self.targets, self.answers, self.valid)
        return Batch(self.places, *(part.to(device) for part in parts))


def make_batches(prompts: list[list[int]], replies: list[list[int]], width: int) -> list[Batch]:
    """All rows, of at most `width` + 1 tokens, in one batch or two: three quarters of them are put
    into a narrow one where they fit, as shapes of their own would be compiled each time."""
    rows = [prompt + reply for prompt, reply in zip(prompts, replies, strict=True)]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    narrow = len(rows) * 3 // 4
    fits = narrow > 0 and len(rows[order[narrow - 1]]) <= NARROW_TOKENS + 1 <= width
    parts = [(order[:narrow], NARROW_TOKENS), (order[narrow:], width)] if fits else [(order, width)]
    batches = []
    for places, time_steps in parts:
        tokens = torch.full((len(places), time_steps + 1), PAD)
        answers = torch.zeros(len(places), time_steps + 1)
        for at, place in enumerate(places):
            whole = rows[place][: time_steps + 1]
            tokens[at, : len(whole)] = torch.tensor(whole)
            answers[at, len(prompts[place]) : len(whole)] = 1
        inputs = tokens[:, :-1].contiguous()
        targets = tokens[:, 1:].contiguous()
        valid = (inputs != PAD).float()
        batches.append(Batch(torch.tensor(places), inputs, targets, answers[:, 1:], valid))
    return batches


class Prompts:
    """Beginnings of training documents up to an assistant turn, sources drawn by their shares."""

    def __init__(self, corpus: TokenizedCorpus, shares: dict[str, float]):
        self.corpus = corpus
        self.of_domain = {
            name: np.flatnonzero(corpus.domains == index)
            for index, name in enumerate(corpus.domain_names)
        }
        self.names = [name for name in corpus.domain_names if shares.get(name, 1.0) > 0]
        self.weights = [shares.get(name, 1.0) for name in self.names]

    def draw(self, rng: random.Random, domain: str) -> tuple[list[int], list[int]]:
        """A prompt, and the document's own answer, its END too."""
        while True:
            document = int(rng.choice(self.of_domain[domain]))
            start, end = (int(place) for place in self.corpus.starts[document : document + 2])
            tokens = self.corpus.tokens[start:end]
            turns = np.flatnonzero(tokens[:PROMPT_TOKENS] == ASSISTANT)
            if turns.size:
                turn = int(turns[0] if rng.random() < FIRST_TURNS else rng.choice(turns))
                end = turn + 1 + int(np.flatnonzero(tokens[turn:] == END)[0])
                return tokens[: turn + 1].tolist(), tokens[turn + 1 : end].tolist()

    def draw_pairs(self, rng: random.Random, count: int) -> list[tuple[list[int], list[int]]]:
        """As `draw`, two by two of one source, so that each has a neighbour of its own kind."""
        prompts = []
        while len(prompts) < count:
            (domain,) = rng.choices(self.names, self.weights)
            prompts += [self.draw(rng, domain), self.draw(rng, domain)]
        return prompts[:count]


@torch.no_grad()
def weigh(
    model: olmoe.Olmoe, prompts: list[list[int]], replies: list[list[int]], width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Per row: nats of the whole reply, what of them is above the usual over the root of the
    tokens, tokens."""
    nats, odd, tokens = torch.zeros(3, len(replies)).unbind()
    for batch in make_batches(prompts, replies, width):
        there = batch.to(model.head.device)
        token = model(there.inputs, there.targets, there.valid).token.cpu()
        nats[batch.places] = (token * batch.answers).sum(1)
        odd[batch.places] = ((token - USUAL_NATS).clamp(min=0) * batch.answers).sum(1)
        tokens[batch.places] = batch.answers.sum(1)
    tokens = tokens.clamp(min=1)
    return nats, odd / tokens.sqrt(), tokens


class Judge:
    """What an answer is worth: no word that does not follow, made for its prompt, no loop."""

    def __init__(
        self,
        model: olmoe.Olmoe,
        tokenizer: Tokenizer,
        corpus: Path,
        short_weight: float,
        fit_weight: float,
    ):
        self.model, self.tokenizer = model.eval(), tokenizer
        self.short_weight, self.fit_weight = short_weight, fit_weight
        counts: Counter[str] = Counter()
        for document in read_documents(corpus):
            for message in document["messages"]:
                counts.update(words_of(message["content"]))
        self.words = {word for word, count in counts.items() if count >= KNOWN_WORD}
        self.common = {word for word, _ in counts.most_common(COMMON_WORDS)}

    def subjects(self, prompt: list[int], own: list[int]) -> set[str]:
        """What the last message asks for: words of it that the document's answer took up."""
        asked, answer = (self.tokenizer.decode(part) for part in (prompt[last_turn(prompt) :], own))
        return set(words_of(asked)) & set(words_of(answer)) - self.common

    def rate(
        self,
        prompts: list[list[int]],
        own: list[list[int]],
        replies: list[list[int]],
        width: int,
    ) -> dict[str, Tensor]:
        """Per row: the reward and its parts.

        odd: nats above the usual; fit: nats that the prompt spares, beside the other prompt of its
        kind; both over the root of the tokens (a reader stumbles at each odd word, and forgives a
        long answer more; one word of its prompt makes a long answer fit); short: share that it
        lacks of the length of the document's `own` answer; missing: share of the prompt's subjects
        that it does not name; loops; unknown: words; echo and wrong: as rules.py has them; endless:
        cut off before its END.
        """
        nats, odd, tokens = weigh(self.model, prompts, replies, width)
        elsewhere, _, _ = weigh(self.model, swap_neighbours(prompts), replies, width)
        fit = ((elsewhere - nats) / tokens.sqrt()).clamp(-MOST_FIT, MOST_FIT)
        wanted = torch.tensor([len(answer) for answer in own]).clamp(max=LONG_ENOUGH) * LEAST_LENGTH
        short = (1 - tokens / wanted).clamp(min=0)
        texts = [self.tokenizer.decode(reply) for reply in replies]
        loops = torch.tensor(
            [
                float(has_loop(text) or repeat_periods(reply).any())
                for text, reply in zip(texts, replies, strict=True)
            ]
        )
        said = [set(words_of(text)) for text in texts]
        unknown = torch.tensor([float(not words <= self.words) for words in said])
        missing = torch.zeros(len(replies))
        for row, words in enumerate(said):
            subjects = self.subjects(prompts[row], own[row])
            if subjects:
                missing[row] = len(subjects - words) / len(subjects)
        echo = torch.tensor([echoes(text) for text in texts])
        wrong = torch.tensor([wrong_sums(text) for text in texts])
        endless = torch.tensor([float(END not in reply) for reply in replies])
        flaws = ODD_WEIGHT * odd + self.short_weight * short + LOOP_WEIGHT * loops
        flaws += UNKNOWN_WEIGHT * unknown + ECHO_WEIGHT * echo
        flaws += WRONG_WEIGHT * wrong + ENDLESS_WEIGHT * endless
        flaws += MISSING_WEIGHT * missing
        parts = {"odd": odd, "fit": fit, "short": short, "loops": loops, "unknown": unknown}
        parts |= {"missing": missing, "echo": echo, "wrong": wrong, "endless": endless}
        return {"reward": self.fit_weight * fit - flaws, **parts}


def last_turn(prompt: list[int]) -> int:
    """Where the last user's message begins."""
    return max((at for at, token in enumerate(prompt) if token == USER), default=0)


def swap_neighbours(prompts: list[list[int]]) -> list[list[int]]:
    """Runs of one prompt after the other: each gets the prompt of the run beside it."""
    distinct: list[list[int]] = []
    runs = []
    for prompt in prompts:
        if not distinct or distinct[-1] is not prompt:
            distinct.append(prompt)
        runs.append(len(distinct) - 1)
    last = len(distinct) - 1
    return [distinct[run ^ 1 if run ^ 1 <= last else max(0, run - 1)] for run in runs]


def advantages(rewards: Tensor, group: int) -> Tensor:
    """[rows]: how much better than its group's mean, in the group's own spread."""
    grouped = rewards.view(-1, group)
    centred = grouped - grouped.mean(1, keepdim=True)
    return (centred / (grouped.std(1, keepdim=True) + LEAST_SPREAD)).flatten()


def parse_arguments() -> tuple[argparse.Namespace, argparse.Namespace]:
    """Own arguments, and those of training, which all others are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--judge", type=Path, help="folder of the model that judges; else that of --init")
    add("--temperature", type=float, action="append", help="of the answers (repeatable: in turn)")
    add("--prompts", type=int, default=16, help="a step")
    add("--group", type=int, default=8, help="answers to each")
    add("--answer-tokens", type=int, default=96)
    add("--share", action="append", default=[], metavar="DOMAIN=WEIGHT", help="of the prompts")
    add("--short-weight", type=float, default=1.0, help="of what an answer lacks in length")
    add("--fit-weight", type=float, default=0.2, help="of what the prompt makes likelier")
    add("--policy-weight", type=float, default=0.3, help="of the answers' loss beside the text's")
    own, rest = parser.parse_known_args()
    own.temperature = own.temperature or [0.7]
    if own.prompts < 2 or own.group < 2:
        parser.error("--prompts and --group must be 2 or more: answers are compared")
    return own, parse_training(rest)


def main() -> None:
    own, arguments = parse_arguments()
    trainer = create_trainer(arguments)
    model = trainer.model
    prompts = Prompts(trainer.train, parse_shares(own.share))
    judging = load_huggingface(own.judge or arguments.init).to(arguments.device)
    corpus = arguments.corpus / "train.jsonl.gz"
    judge = Judge(judging, trainer.tokenizer, corpus, own.short_weight, own.fit_weight)
    width = PROMPT_TOKENS + own.answer_tokens
    rows_of_text = arguments.batch_tokens // arguments.window
    file = (arguments.out / "metrics.csv").open("w", newline="")
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    trainer.began = time.monotonic()
    while trainer.progress < 1:
        step = trainer.step
        rng = random.Random(f"{arguments.seed} {step}")
        pairs = prompts.draw_pairs(rng, own.prompts)
        asked, own_answers = map(
            list, zip(*(pair for pair in pairs for _ in range(own.group)), strict=True)
        )
        seed = rng.randrange(2**31)
        temperature = own.temperature[step % len(own.temperature)]
        replies = decode(model, asked, own.answer_tokens, temperature, seed)
        rated = judge.rate(asked, own_answers, replies, width)
        rate = trainer.begin_step()
        better = advantages(rated["reward"], own.group)
        tokens = float(sum(map(len, replies)))
        drawn = 0.0
        for batch in make_batches(asked, replies, width):
            there = batch.to(arguments.device)
            token = model(there.inputs, there.targets, there.valid, temperature).token
            wanted = (better[batch.places, None] * batch.answers).to(arguments.device)
            (own.policy_weight * (wanted * token).sum() / tokens).backward()
            drawn += float((there.answers * token.detach()).sum()) / tokens
        inputs, targets, weights = trainer.batches.next(arguments.window, rows_of_text)
        losses = model(inputs, targets, (inputs != PAD).float())
        text = (losses.token * weights).sum() / weights.sum()
        (text + trainer.routing_loss(losses)).backward()
        norm = trainer.end_step()
        row = {name: round(float(value.mean()), 4) for name, value in rated.items()}
        row |= {
            "step": trainer.step,
            "seconds": round(trainer.seconds, 1),
            "lr": f"{rate:.3g}",
            "temperature": temperature,
            "length": round(tokens / len(replies), 1),
            "drawn": round(drawn, 4),
            "text": round(float(text.detach()), 4),
            "grad_norm": round(norm, 3),
        }
        if trainer.step % arguments.valid_every == 0:
            row["valid_bits_per_byte"] = round(trainer.validate(arguments.window), 4)
        writer.writerow(row)
        file.flush()
        print(row, flush=True)
    export_huggingface(model, arguments.tokenizer, arguments.out / "model")


if __name__ == "__main__":
    main()
