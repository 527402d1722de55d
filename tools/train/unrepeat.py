"""Training against loops: windows of repeated text, and the loss that makes repetition fade.

Follows "Learning to Break the Loop" (Xu et al., arXiv 2206.02369): a decoder raises the chance of
what it has just said, so greedy decoding runs into loops; every repetition's tokens are asked to
be `decay` times as likely as they were the time before. Repetition comes from two places: a clause
of a training document said again and again after the text before it, and what the model itself
answers to training prompts, decoded greedily.
"""

import random
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from corpus import ASSISTANT, PAD, SPECIAL_TOKENS, TokenizedCorpus
from decode import decode
from olmoe import Olmoe

CLAUSE_MARKS = set('.,;:!?"\n')
CLAUSE_TOKENS = (2, 64)  # least and most that are repeated
CLAUSES = 3  # at most so many in a row are repeated as one
COPIES = (3, 8)
TOKENS_BEFORE = 64  # at most so much of the document stays before the first copy, or the reply
REPLY_TOKENS = 96
REPLIES_KEPT = 64
PHRASE_TOKENS = 8  # of an own reply's phrases, said before: a repetition


def clause_ends(tokenizer: Tokenizer) -> np.ndarray:
    """[vocabulary] bool: a clause may end with this token."""
    ends = np.zeros(tokenizer.get_vocab_size(), bool)
    for index in range(len(SPECIAL_TOKENS), len(ends)):
        ends[index] = tokenizer.decode([index])[-1:] in CLAUSE_MARKS
    return ends


def repeat_periods(tokens: list[int], length: int = PHRASE_TOKENS) -> np.ndarray:
    """[tokens] int64: where a phrase of `length` ends that ended before, how far back; else 0."""
    periods = np.zeros(len(tokens), np.int64)
    last: dict[tuple[int, ...], int] = {}
    for at in range(length, len(tokens) + 1):
        phrase = tuple(tokens[at - length : at])
        if phrase in last:
            periods[at - 1] = at - last[phrase]
        last[phrase] = at
    return periods


@dataclass
class Piece:
    """Some text with repetition in it; all arrays [tokens]."""

    tokens: np.ndarray  # int64
    weights: np.ndarray  # f32: 1 for ordinary text, to be learnt as any other
    periods: np.ndarray  # int64: distance to the same token the time before, 0: no repetition


class Repetition:
    """Makes pieces and packs them into windows."""

    def __init__(self, corpus: TokenizedCorpus, ends: np.ndarray, repeats: dict[str, float]):
        """`repeats`: domain -> copies per pass, as in `pack_epoch`."""
        self.corpus, self.ends = corpus, ends
        shares = np.array([repeats.get(name, 1.0) for name in corpus.domain_names])
        self.cumulated = np.cumsum(shares[corpus.domains] * np.diff(corpus.starts))
        self.take([])

    def document(self, rng: random.Random) -> np.ndarray:
        """One document's tokens; drawn by length, so that every place is as likely."""
        at = rng.random() * self.cumulated[-1]
        document = int(np.searchsorted(self.cumulated, at, side="right"))
        start, end = (int(place) for place in self.corpus.starts[document : document + 2])
        return self.corpus.tokens[start:end].astype(np.int64)

    def clause_piece(self, rng: random.Random) -> Piece:
        """A clause, or a few, said again and again after what comes before it."""
        while True:
            tokens = self.document(rng)
            special = tokens < len(SPECIAL_TOKENS)
            cuts = np.flatnonzero(self.ends[tokens[:-1]] | special[:-1]) + 1
            first = int(rng.choice(cuts))
            least, most = CLAUSE_TOKENS
            later = cuts[(cuts >= first + least) & (cuts <= first + most)][:CLAUSES]
            if not later.size:
                continue
            last = int(rng.choice(later))
            if special[first:last].any():
                continue  # the end of a turn is no part of a clause
            period, begin = last - first, max(0, first - TOKENS_BEFORE)
            more = np.tile(tokens[first:last], rng.randint(*COPIES) - 1)
            weights = np.repeat([1.0, 0.0], (last - begin, len(more))).astype(np.float32)
            periods = np.repeat([0, period], (last - begin, len(more)))
            return Piece(np.concatenate((tokens[begin:last], more)), weights, periods)

    def prompt(self, rng: random.Random) -> list[int]:
        """The beginning of a document up to one of its assistant turns."""
        while True:
            tokens = self.document(rng)[:TOKENS_BEFORE]
            turns = np.flatnonzero(tokens == ASSISTANT)
            if turns.size:
                return tokens[: int(rng.choice(turns)) + 1].tolist()

    def decode(self, model: Olmoe, seed: str, count: int) -> None:
        """Adds the model's replies to `count` prompts that repeat something; old ones go."""
        rng = random.Random(seed)
        prompts = [self.prompt(rng) for _ in range(count)]
        replies = decode(model, prompts, REPLY_TOKENS)
        pairs = zip(prompts, replies, strict=True)
        looping = [(prompt, reply) for prompt, reply in pairs if repeat_periods(reply).any()]
        self.take((looping + self.replies)[:REPLIES_KEPT])

    def take(self, replies: list[tuple[list[int], list[int]]]) -> None:
        """Prompts with their replies become the pieces of the model's own."""
        self.replies, self.own = replies, []
        for prompt, reply in replies:
            weights = np.repeat([1.0, 0.0], (len(prompt), len(reply))).astype(np.float32)
            periods = np.concatenate((np.zeros(len(prompt), np.int64), repeat_periods(reply)))
            self.own.append(Piece(np.array(prompt + reply), weights, periods))

    def windows(
        self, seed: str, count: int, window: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Inputs, targets, weights as `fill_batch` gives them, and periods, each [count, window].

        Half the pieces are own replies, once `decode` has made some.
        """
        rng = random.Random(seed)
        tokens = np.full((count, window + 1), PAD, np.int64)
        weights = np.zeros((count, window + 1), np.float32)
        periods = np.zeros((count, window + 1), np.int64)
        for row in range(count):
            at = 0
            while at <= window:
                own = bool(self.own) and rng.random() < 0.5
                piece = rng.choice(self.own) if own else self.clause_piece(rng)
                part = slice(at, at + len(piece.tokens))
                length = len(tokens[row, part])
                tokens[row, part] = piece.tokens[:length]
                weights[row, part] = piece.weights[:length]
                weights[row, at] = 0.0  # nothing before it tells what it may be
                periods[row, part] = piece.periods[:length]
                at += length
        return tokens[:, :-1], tokens[:, 1:], weights[:, 1:], periods[:, 1:]


def unrepeat_loss(nats: Tensor, periods: Tensor, decay: float) -> Tensor:
    """nats [rows, window] of the targets, periods as above -> mean loss of the repeated targets.

    -log(1 - |p - decay * p the time before|), where the time before is a constant (equation 4).
    """
    rows, places = periods.nonzero(as_tuple=True)
    chances = torch.exp(-nats)
    before = chances[rows, places - periods[rows, places]].detach()
    distance = (chances[rows, places] - decay * before).abs()
    return -torch.log1p(-distance.clamp(max=1 - 1e-5)).mean()
