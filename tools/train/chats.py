"""Chats that show what a model says: their prompts, its replies, and whether these run in loops.

Owns what counts as a loop; knows nothing of files of weights. Replies are decoded by `decode.py`.
"""

import re
from collections import Counter, defaultdict
from pathlib import Path

from corpus import domain_of, read_documents
from decode import decode
from olmoe import Olmoe

# (temperature, top-p): greedy; the model's own odds, sharpened; and what the demo begins with.
SAMPLING = ((0.0, 1.0), (0.7, 1.0), (0.7, 0.6))


def has_loop(text: str, length: int = 4, times: int = 3) -> bool:
    """Whether a phrase of `length` words, or a sentence or line of two, occurs `times` times, or
    two characters or more stand `times` + 1 times in a row ("$+$+$+$+").

    Stricter than an ear: a sum that names the same thing in three lines counts too.
    """
    words = text.lower().split()
    phrases = [tuple(words[start : start + length]) for start in range(len(words) - length + 1)]
    sentences = [tuple(part.split()) for part in re.split(r"[.!?\n]", text.lower())]
    sentences = [sentence for sentence in sentences if len(sentence) > 1]
    most = max((*Counter(phrases).values(), *Counter(sentences).values()), default=0)
    return most >= times or re.search(rf"(..+?)\1{{{times}}}", text) is not None


def opening_prompts(path: Path, count: int, others: list[list[str]]) -> list[list[str]]:
    """[source, first message] of `count` documents of every source, evenly spread over the file.

    Messages that occur twice, or among `others`, are taken once, or not at all.
    """
    openings: dict[str, dict[str, None]] = defaultdict(dict)
    known = {prompt for _, prompt in others}
    for document in read_documents(path):
        text = document["messages"][0]["content"]
        if text not in known:
            openings[domain_of(document["source"])][text] = None
    rows = []
    for source, texts in openings.items():
        spread = [list(texts)[at * len(texts) // count] for at in range(min(count, len(texts)))]
        rows += [[source, text] for text in spread]
    return rows


def sample_chats(
    model: Olmoe, tokenizer, prompts: list[list[str]], seed: int, max_tokens: int
) -> list[dict]:
    """A reply to each prompt for each of `SAMPLING`.

    Prompt N is sampled with seed `seed` + N: one seed for all would start every reply alike.
    """
    inputs = []
    for _, prompt in prompts:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        inputs.append(tokenizer(text, add_special_tokens=False)["input_ids"])
    rows = []
    for temperature, top_p in SAMPLING:
        replies = decode(model, inputs, max_tokens, temperature, seed, top_p)
        for (source, prompt), reply in zip(prompts, replies, strict=True):
            text = tokenizer.decode(reply, skip_special_tokens=True)
            rows.append(
                {
                    "source": source,
                    "prompt": prompt,
                    "temperature": temperature,
                    "topP": top_p,
                    "reply": text,
                    "loop": has_loop(text),
                }
            )
    return rows


def count_loops(rows: list[dict]) -> dict[str, dict[str, str]]:
    """"TEMPERATURE, top-p" -> "loops of replies", in all and by source."""
    counts: dict[str, dict[str, list[int]]] = {}
    for row in rows:
        by_source = counts.setdefault(f"{row['temperature']}, {row['topP']}", {})
        for name in ("all", row["source"]):
            by_source.setdefault(name, []).append(int(row["loop"]))
    return {
        sampling: {name: f"{sum(loops)} of {len(loops)}" for name, loops in by_source.items()}
        for sampling, by_source in counts.items()
    }
