"""Checks of refining: rows, rewards, and that what the judge likes becomes likelier."""

import csv
import gzip
import json
import sys

import pytest
import torch

import refine
from corpus import ASSISTANT, BOS, END, PAD, USER
from export import export_huggingface
from olmoe import Olmoe
from refine import Judge, advantages, make_batches, swap_neighbours
from test_train import CONFIG, DOCUMENTS, tokenizer_file  # noqa: F401
from weights import load_huggingface

PROMPT = [BOS, USER, 40, 41, END, ASSISTANT]


def test_rows_hold_prompt_and_answer_and_no_more():
    """Targets of the answer are marked, its END too; a longer row is cut."""
    (batch,) = make_batches([PROMPT, PROMPT], [[50, END], [51, 52, 53]], 7)
    assert batch.inputs.tolist() == [[*PROMPT, 50], [*PROMPT, 51]]
    assert batch.targets[:, -2:].tolist() == [[50, END], [51, 52]]
    assert batch.answers.tolist() == [[0] * 5 + [1, 1]] * 2
    (batch,) = make_batches([PROMPT], [[50, END]], 9)
    assert batch.valid.tolist() == [[1.0] * 8 + [0.0]] and batch.inputs[0, -1] == PAD


def test_short_rows_go_into_a_narrow_batch_where_most_are_short():
    replies = [[60] * 100, [61], [62, END], [63]]
    narrow, wide = make_batches([PROMPT] * 4, replies, 160)
    assert narrow.places.tolist() == [1, 3, 2] and narrow.inputs.shape == (3, refine.NARROW_TOKENS)
    assert wide.places.tolist() == [0] and wide.inputs.shape == (1, 160)
    long = [[60] * 100] * 2 + replies[:2]
    assert [batch.inputs.shape for batch in make_batches([PROMPT] * 4, long, 160)] == [(4, 160)]


def test_each_prompt_is_exchanged_for_its_neighbour():
    a, b, c = [1], [2], [3]
    assert swap_neighbours([a, a, b, b]) == [b, b, a, a]
    assert swap_neighbours([a, b, c]) == [b, a, b]


def test_answers_are_measured_by_their_group():
    better = advantages(torch.tensor([1.0, 2.0, 3.0, 5.0, 5.0, 5.0]), 3)
    assert torch.allclose(better[:3], torch.tensor([-1.0, 0.0, 1.0]) / 1.1)
    assert better[3:].tolist() == [0.0, 0.0, 0.0]


@pytest.fixture
def folders(tmp_path, tokenizer_file):  # noqa: F811
    """(corpus, model, judge): random weights; the judge has strong opinions."""
    for name in ("train", "valid"):
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt") as lines:
            lines.writelines(json.dumps(document) + "\n" for document in DOCUMENTS * 40)
    torch.manual_seed(3)
    model = Olmoe(CONFIG)
    export_huggingface(model, tokenizer_file, tmp_path / "model")
    judge = Olmoe(CONFIG)
    judge.head.data *= 20
    export_huggingface(judge, tokenizer_file, tmp_path / "judge")
    return tmp_path, tmp_path / "model", tmp_path / "judge"


def test_rewards_are_those_of_each_answer_alone(folders, tokenizer_file):  # noqa: F811
    """Padding, and what stands in other rows, changes nothing; loops and odd words are seen."""
    from tokenizers import Tokenizer

    corpus, folder, _ = folders
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    model = load_huggingface(folder, torch.float32)
    judge = Judge(model, tokenizer, corpus / "train.jsonl.gz", 0.8, 0.2)
    texts = ["Once upon a time", "Yes.", "a time a time a time a time a time", "xyzzy"]
    replies = [[*tokenizer.encode(text, add_special_tokens=False).ids, END] for text in texts]
    prompts = [PROMPT] * 2 + [[BOS, USER, 44, END, ASSISTANT]] * 2
    rated = judge.rate(prompts, [[60] * count for count in (4, 4, 200, 8)], replies, 160)
    assert rated["loops"].tolist() == [0, 0, 1, 0]
    assert rated["unknown"].tolist() == [0, 0, 0, 1]
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        ids = torch.tensor([prompt + reply])
        nats = model(ids[:, :-1], ids[:, 1:], torch.ones(1, ids.shape[1] - 1)).token
        nats = nats[0, len(prompt) - 1 :].detach()
        odd = (nats - refine.USUAL_NATS).clamp(min=0).sum() / len(reply) ** 0.5
        assert rated["odd"][row] == pytest.approx(float(odd), rel=1e-4)
    tokens = torch.tensor([len(reply) for reply in replies])
    short = (1 - tokens / torch.tensor([3.2, 3.2, 40.0, 6.4])).clamp(min=0)
    assert torch.allclose(rated["short"], short)
    assert rated["endless"].tolist() == [0, 0, 0, 0] and rated["echo"][2] > 0
    flaws = rated["odd"] / 2 + 0.8 * short + rated["loops"] + rated["unknown"] / 2 + rated["echo"]
    assert torch.allclose(rated["reward"], 0.2 * rated["fit"] - flaws)
    cut = judge.rate(prompts[:2], [[60] * 4] * 2, [reply[:-1] for reply in replies[:2]], 160)
    assert cut["endless"].tolist() == [1, 1]


def test_an_answer_names_what_the_document_s_own_takes_up(folders, tokenizer_file):  # noqa: F811
    """Not what only the prompt says, no common word, nothing of an earlier turn."""
    from tokenizers import Tokenizer

    corpus, folder, _ = folders
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    model = load_huggingface(folder, torch.float32)
    judge = Judge(model, tokenizer, corpus / "train.jsonl.gz", 0.0, 0.2)
    judge.common = {"a", "the"}

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    asked = ids("Tell me a tale about a Fox and the well.")
    prompt = [BOS, USER, *ids("A king"), END, ASSISTANT, *ids("Yes"), END, USER, *asked, END]
    prompt.append(ASSISTANT)
    own = ids("The fox fell into a well, the king did not.")
    assert judge.subjects(prompt, own) == {"fox", "well"}
    replies = [ids(text) for text in ("The Fox!", "A king.", "Well, fox?")]
    rated = judge.rate([prompt] * 3, [own] * 3, replies, 160)
    assert rated["missing"].tolist() == [0.5, 1, 0]
    assert judge.rate([prompt], [ids("No.")], replies[:1], 160)["missing"].tolist() == [0]


def test_what_the_judge_likes_becomes_likelier(folders, tokenizer_file, monkeypatch):  # noqa: F811
    corpus, model, judge = folders
    out = corpus / "out"
    command = (
        f"refine.py --corpus {corpus} --tokenizer {tokenizer_file} --init {model} --judge {judge}"
        f" --out {out} --steps 40 --lr 1e-2 --warmup-steps 1 --batch-tokens 128 --window 64"
        " --prompts 4 --group 8 --answer-tokens 8 --policy-weight 10 --no-compile"
    )
    monkeypatch.setattr(sys, "argv", command.split())
    refine.main()
    rows = list(csv.DictReader((out / "metrics.csv").open()))
    odd = [float(row["odd"]) for row in rows]
    assert len(rows) == 40 and sum(odd[-5:]) < 0.8 * sum(odd[:5])
    before, after = load_huggingface(model), load_huggingface(out / "model")
    assert not torch.equal(before.head, after.head)
