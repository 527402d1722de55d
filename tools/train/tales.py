"""Adds short tales to the training text: plain passages of its stories as answers of their own.

The corpus answers "Tell me a story." with some 400 words, which no model of this size holds
together. Whole sentences from the start of a paragraph, a few dozen tokens long, show it what an
answer is that it can give to the end. Of those a model says which it finds plain; each is asked
for in some of the wordings that the corpus has. Documents of training only: validation has none.
"""

import argparse
import gzip
import json
import random
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from corpus import ASSISTANT, BOS, END, USER, domain_of, read_documents
from olmoe import Olmoe
from refine import ODD_WEIGHT, weigh
from weights import load_huggingface

SHORTEST, LONGEST = 30, 64  # tokens of a tale
MOST_SPEECH = 0.5  # share of a tale's characters in quotation marks
ROWS = 64  # scored at a time
# Says whom it is about by itself: nothing that only a page before it explains.
OPENS_TALE = re.compile(r"(Once|Long ago|There (was|were|lived|once)|One [a-z]+|In the |An? [a-z])")
OPENS_SCENE = re.compile(
    r"(The [a-z]|When the |As soon as the |At last the |Then the |So the |Now )"
)
SENTENCE = re.compile(r".+?(?<!Mr)(?<!Mrs)(?<!Dr)(?<!St)[.!?][\"']?(?=\s|$)", re.DOTALL)
UNKNOWN_THERE = re.compile(r"\b(I|me|my|we|our|us|this|these|that|those|such|other|same)\b")
THING = re.compile(r"\b(?:about|with|and) an? ([a-z]+)(?=\.| in it| and an? )")
NOUNS = re.compile(r"\b(?:an?|the|his|her|their|one) (?:([a-z]+)\b(?= ([a-z]+))?)")
SINGLE_OPEN, SINGLE_CLOSE = re.compile(r"(?<!\w)'(?=\w)"), re.compile(r"(?<=[.,!?;])'")
ASKS_FOR_ONE = (
    "Tell me a story about {}.",
    "Make up a tale with {} in it.",
    "I would like a story with {} in it.",
    "Tell me something about {}.",
)
ASKS_FOR_TWO = (
    "Tell me a story about {} and {}.",
    "Make up a tale with {} and {} in it.",
    "I would like a story with {} and {} in it.",
)
ASKS_FOR_ANY = (
    "Tell me a story.",
    "Can you tell me a story?",
    "Please tell me a bedtime story.",
    "Tell me an old tale.",
    "I'd like to hear a story, please.",
    "Read me a story.",
)


@dataclass
class Tale:
    """A passage and where it is from."""

    source: str
    text: str
    opens: bool  # a tale of its own, not one of its scenes
    oddness: float = 0.0  # as refine.py weighs it, and the nats a token
    things: list[str] = field(default_factory=list)  # that it names and prompts ask for


def split_sentences(paragraph: str) -> list[str]:
    """Whole ones; what an unfinished one leaves is dropped."""
    return [match.group().strip() for match in SENTENCE.finditer(paragraph)]


def is_whole(text: str) -> bool:
    """Quotations are closed, and most of it is told, not said."""
    said = sum(map(len, re.findall(r'"[^"]*"', text)))
    closed = text.count('"') % 2 == 0
    closed &= len(SINGLE_OPEN.findall(text)) == len(SINGLE_CLOSE.findall(text))
    return closed and said <= MOST_SPEECH * len(text)


def longest_start(paragraphs: list[str], tokenizer: Tokenizer) -> str:
    """As many of their first sentences as fit and make a whole; "" where none do."""
    text, best = "", ""
    for paragraph in paragraphs:
        for at, sentence in enumerate(split_sentences(paragraph)):
            text += ("" if not text else " " if at else "\n\n") + sentence
            length = len(tokenizer.encode(text, add_special_tokens=False).ids)
            if length > LONGEST:
                return best
            if length >= SHORTEST and is_whole(text):
                best = text
    return best


def find_tales(documents: list[dict], tokenizer: Tokenizer) -> list[Tale]:
    """At most one to a paragraph: as many of its sentences as fit, and of the next ones'."""
    tales: dict[str, Tale] = {}
    for document in documents:
        paragraphs = document["messages"][-1]["content"].split("\n\n")
        for at, paragraph in enumerate(paragraphs):
            opens = OPENS_TALE.match(paragraph) is not None
            if not opens and not OPENS_SCENE.match(paragraph):
                continue
            first = split_sentences(paragraph)[:1]
            if not first or UNKNOWN_THERE.search(re.sub(r'"[^"]*"', "", first[0])):
                continue
            best = longest_start(paragraphs[at : at + 3], tokenizer)
            if best:
                tales.setdefault(best, Tale(document["source"], best, opens))
    return list(tales.values())


def find_things(documents: list[dict]) -> set[str]:
    """What the corpus' own prompts ask for more than once: `fox`, `king`."""
    counts: Counter[str] = Counter()
    for document in documents:
        prompt = document["messages"][0]["content"]
        counts.update([] if '"' in prompt else THING.findall(prompt))
    return {thing for thing, count in counts.items() if count > 1}


def things_in(text: str, things: set[str]) -> list[str]:
    """Those that the text has as things, not as verbs ("rose"), in its order."""
    found = dict.fromkeys(word for pair in NOUNS.findall(text.lower()) for word in pair if word)
    return [word for word in found if word in things]


def prompts_for(tale: Tale, rng: random.Random, count: int) -> list[str]:
    """Distinct ones that name its things; where it opens a tale, one more that asks for any."""
    named = [f"{'an' if word[0] in 'aeiou' else 'a'} {word}" for word in tale.things]
    prompts = [wording.format(one) for one in named[:2] for wording in ASKS_FOR_ONE]
    prompts += [wording.format(*named[:2]) for wording in ASKS_FOR_TWO if len(named) > 1]
    chosen = rng.sample(prompts, min(count, len(prompts)))
    return chosen + rng.sample(ASKS_FOR_ANY, 1) if tale.opens else chosen


def choose_plain(tales: list[Tale], most: int, each: int) -> list[Tale]:
    """The least odd ones, at most `each` of those whose first thing is the same."""
    counts: Counter[str] = Counter()
    chosen = []
    for tale in sorted(tales, key=lambda tale: tale.oddness):
        first = tale.things[0] if tale.things else ""
        if (tale.things or tale.opens) and counts[first] < each and len(chosen) < most:
            counts[first] += 1
            chosen.append(tale)
    return chosen


def find_oddness(tales: list[Tale], model: Olmoe, tokenizer: Tokenizer) -> None:
    """Gives each its own, with as little as can be asked before it."""
    asked = tokenizer.encode(ASKS_FOR_ANY[0], add_special_tokens=False).ids
    prompt = [BOS, USER, *asked, END, ASSISTANT]
    for start in range(0, len(tales), ROWS):
        part = tales[start : start + ROWS]
        replies = [tokenizer.encode(tale.text, add_special_tokens=False).ids for tale in part]
        nats, odd, tokens = weigh(model, [prompt] * len(part), replies, len(prompt) + LONGEST)
        for tale, value in zip(part, ODD_WEIGHT * odd + nats / tokens, strict=True):
            tale.oddness = float(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--corpus", type=Path, required=True, help="folder with train.jsonl.gz and valid.jsonl.gz")
    add("--tokenizer", type=Path, required=True)
    add("--model", type=Path, required=True, help="folder of the model that finds tales plain")
    add("--out", type=Path, required=True, help="folder for the corpus with the tales in it")
    add("--tales", type=int, default=240)
    add("--each", type=int, default=5, help="of one thing")
    add("--prompts", type=int, default=4, help="to each")
    add("--seed", type=int, default=1)
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
    train = arguments.corpus / "train.jsonl.gz"
    documents = [d for d in read_documents(train) if domain_of(d["source"]) == "stories"]
    tales = find_tales(documents, tokenizer)
    find_oddness(tales, load_huggingface(arguments.model).eval(), tokenizer)
    print(f"{len(tales)} passages, of {np.mean([tale.opens for tale in tales]):.0%} a tale opens")
    rng = random.Random(arguments.seed)
    things = find_things(documents)
    for tale in tales:
        tale.things = things_in(tale.text, things)
    tales = choose_plain(tales, arguments.tales, arguments.each)
    arguments.out.mkdir(parents=True, exist_ok=True)
    shutil.copy(arguments.corpus / "valid.jsonl.gz", arguments.out)
    shutil.copy(train, arguments.out)
    written = 0
    with gzip.open(arguments.out / train.name, "at", encoding="utf-8") as lines:
        for tale in tales:
            book = tale.source.partition("/")[2]
            for prompt in prompts_for(tale, rng, arguments.prompts):
                messages = [
                    {"role": "user", "content": prompt},
                    {"role": "assistant", "content": tale.text},
                ]
                line = {"source": f"tales/{book}", "messages": messages}
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
                written += 1
    print(f"{len(tales)} tales, {written} documents")


if __name__ == "__main__":
    main()
