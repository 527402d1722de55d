"""Checks of the recipe; `python -m pytest tools/train` (under a minute on two cores)."""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

import olmoe
import train
from average import average
from chats import count_loops, has_loop, opening_prompts
from corpus import (
    BOS,
    END,
    PAD,
    SPECIAL_TOKENS,
    TokenizedCorpus,
    fill_batch,
    pack_epoch,
    tokenize_documents,
)
from decode import decode, keep_top
from evaluate import load_model
from export import export_gguf, export_huggingface
from learned import PathPredictor, export, read_state
from unrepeat import Repetition, clause_ends, repeat_periods, unrepeat_loss
from weights import load_huggingface

CONFIG = olmoe.Config(
    hidden_size=64, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
    num_experts=8, num_experts_per_tok=2, vocab_size=270, max_position_embeddings=256,
)  # fmt: skip
DOCUMENTS = [
    {
        "source": "stories/one",
        "messages": [
            {"role": "user", "content": "Tell me."},
            {"role": "assistant", "content": "Once\n\nupon a time — it's done."},
        ],
    },
    {
        "source": "sums",
        "messages": [
            {"role": "user", "content": "1 + 1?"},
            {"role": "assistant", "content": "2"},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "Yes."},
        ],
    },
]


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory) -> Path:
    """A byte-level tokenizer with a handful of merges."""
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG.vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the time the tale the time"] * 4, trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer_file) -> Path:
    """A random model as a Hugging Face folder; wide weights, so that routing is uneven."""
    torch.manual_seed(0)
    model = olmoe.Olmoe(CONFIG, torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.ndim > 1 else 1)
    out = tmp_path_factory.mktemp("model")
    export_huggingface(model, tokenizer_file, out)
    return out


def nats_by_transformers(model, ids: torch.Tensor) -> torch.Tensor:
    logits = model(ids).logits[:, :-1].transpose(1, 2)
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:], reduction="none")


def test_the_forward_pass_is_that_of_transformers(folder):
    ids = torch.randint(0, CONFIG.vocab_size, (2, 200))
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ours = load_huggingface(folder, torch.float32)
    losses = ours(ids[:, :-1], ids[:, 1:], torch.ones(2, 199))
    torch.testing.assert_close(
        losses.token, nats_by_transformers(theirs, ids), atol=2e-4, rtol=1e-4
    )


def test_blocked_attention_agrees_with_pytorchs_in_value_and_gradient():
    torch.manual_seed(2)
    q, k, v = (torch.randn(3, 300, 8, requires_grad=True) for _ in range(3))
    value = olmoe.CausalAttention.apply(q, k, v)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
    torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-4)
    seed = torch.randn_like(value)
    for ours, theirs in zip(
        torch.autograd.grad(value, (q, k, v), seed),
        torch.autograd.grad(expected, (q, k, v), seed),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_sorted_experts_agree_with_a_loop_in_value_and_gradient():
    torch.manual_seed(1)
    tokens, width, inner, experts, k = 50, 16, 8, 4, 2
    x = torch.randn(tokens, width, requires_grad=True)
    gate_up = torch.randn(experts, width, 2 * inner, requires_grad=True)
    down = torch.randn(experts, inner, width, requires_grad=True)
    weights = torch.rand(tokens, k, requires_grad=True)
    chosen = torch.rand(tokens, experts).topk(k, -1).indices
    inputs = (x, weights, gate_up, down)
    value = olmoe.Experts.apply(x, weights, chosen, gate_up, down)
    expected = torch.zeros(tokens, width)
    for rank in range(k):
        for expert in range(experts):
            mine = chosen[:, rank] == expert
            gate, up = (x @ gate_up[expert]).chunk(2, -1)
            output = (torch.nn.functional.silu(gate) * up) @ down[expert]
            expected = expected + output * (weights[:, rank] * mine)[:, None]
    torch.testing.assert_close(value, expected, atol=1e-4, rtol=1e-4)
    seed = torch.randn_like(value)
    for ours, theirs in zip(
        torch.autograd.grad(value, inputs, seed),
        torch.autograd.grad(expected, inputs, seed),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_token_ids_are_those_of_the_chat_template(folder, tokenizer_file, tmp_path):
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps(d) + "\n" for d in DOCUMENTS))
    corpus = tokenize_documents(path, Tokenizer.from_file(str(tokenizer_file)))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for index, document in enumerate(DOCUMENTS):
        text = tokenizer.apply_chat_template(document["messages"], tokenize=False)
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert corpus.tokens[corpus.starts[index] : corpus.starts[index + 1]].tolist() == expected
    assert corpus.domain_names == ["stories", "sums"]


def test_packing_keeps_documents_whole_and_loses_no_target():
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 90, 200)
    starts = np.concatenate([[0], lengths.cumsum()])
    tokens = rng.integers(6, 100, starts[-1]).astype(np.uint16)
    tokens[starts[:-1]] = BOS
    domains = np.zeros(200, np.int64)
    corpus = TokenizedCorpus(tokens, np.zeros(len(tokens), bool), starts, domains, ["all"])
    windows = pack_epoch(corpus, 64, seed=0, repeats={})
    whole = {span for window in windows for span in window}
    for start, end in zip(starts[:-1], starts[1:], strict=True):
        assert end - start > 65 or (start, end) in whole
    inputs, targets, weights = fill_batch(corpus, windows, 64, user_weight=1.0)
    assert weights.sum() == len(tokens) - 200  # all but each document's BOS
    assert (weights[targets == PAD] == 0).all() and inputs.shape == targets.shape


def test_decoding_many_prompts_is_decoding_each_with_transformers(folder):
    prompts = [[0, 3, 40, 41, 42, 5, 4], [0, 3, 90, 5, 4]]
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = load_huggingface(folder, torch.float32)
    for prompt, reply in zip(prompts, decode(ours, prompts, 24), strict=True):
        with torch.no_grad():
            expected = theirs.generate(
                torch.tensor([prompt]), max_new_tokens=24, do_sample=False,
                eos_token_id=END, pad_token_id=PAD,
            )  # fmt: skip
        assert reply == expected[0, len(prompt) :].tolist()


def test_a_sampled_reply_depends_on_its_own_prompt_and_seed_alone(folder):
    model = load_huggingface(folder, torch.float32)
    prompts = [[0, 3, 40, 41, 42, 5, 4], [0, 3, 90, 5, 4]]
    both = decode(model, prompts, 24, temperature=0.7, seed=3)
    assert both[1] == decode(model, prompts[1:], 24, temperature=0.7, seed=4)[0]
    assert both != decode(model, prompts, 24, temperature=0.7, seed=5)
    # Nothing but the likeliest token is in a set that small.
    assert decode(model, prompts, 24, 0.7, 3, top_p=1e-6) == decode(model, prompts, 24)


def test_the_smallest_set_of_enough_chance_is_kept():
    chances = torch.tensor([0.1, 0.5, 0.15, 0.25])
    assert keep_top(chances, 1.0).tolist() == chances.tolist()
    assert keep_top(chances, 0.75).nonzero()[:, 0].tolist() == [1, 3]
    assert keep_top(chances, 0.76).nonzero()[:, 0].tolist() == [1, 2, 3]


def test_a_phrase_said_before_has_a_period():
    periods = repeat_periods([7, 1, 2, 3, 9, 1, 2, 3, 1, 2, 3], length=3)
    assert periods.tolist() == [0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 3]


def test_a_mean_of_models_weighs_them():
    ones, threes = olmoe.Olmoe(CONFIG), olmoe.Olmoe(CONFIG)
    with torch.no_grad():
        for model, value in ((ones, 1.0), (threes, 3.0)):
            for parameter in model.parameters():
                parameter.fill_(value)
    mean = average([(ones, 3.0), (threes, 1.0)])
    assert all((parameter == 1.5).all() for parameter in mean.parameters())


def test_made_windows_repeat_clauses_of_the_corpus(tokenizer_file, tmp_path):
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps(d) + "\n" for d in DOCUMENTS))
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    corpus = tokenize_documents(path, tokenizer)
    made = Repetition(corpus, clause_ends(tokenizer), {"sums": 0.0}).windows("seed", 3, 200)
    inputs, targets, weights, periods = made
    assert (inputs[:, 1:] == targets[:, :-1]).all() and inputs.shape == periods.shape == (3, 200)
    rows, places = periods.nonzero()
    assert len(rows) > 100
    again = targets[rows, places]
    assert (again == targets[rows, places - periods[rows, places]]).all()
    assert (again >= len(SPECIAL_TOKENS)).all()  # no turn is ended twice
    assert (weights[rows, places] == 0).all()  # a copy is never taught
    assert weights.sum() > 100
    story = corpus.tokens[corpus.starts[0] : corpus.starts[1]]
    assert set(again) <= set(story)  # the sums weigh nothing


def test_copies_are_asked_to_fade():
    chances = torch.tensor([[0.8, 0.4, 0.4, 0.1]])
    periods = torch.tensor([[0, 0, 2, 2]])
    loss = unrepeat_loss(-chances.log(), periods, decay=0.5)
    # 0.4 is half of 0.8: no loss; 0.1 is 0.1 away from half of 0.4.
    torch.testing.assert_close(loss, -torch.tensor([1.0, 0.9]).log().mean())


def test_the_gguf_file_scores_as_the_folder_does(folder, tmp_path):
    export_gguf(folder, tmp_path / "model.gguf", "test")
    ids = torch.randint(0, CONFIG.vocab_size, (1, 100))
    with torch.no_grad():
        exact = nats_by_transformers(load_model(folder, None), ids).mean()
        quantized = nats_by_transformers(load_model(folder, tmp_path / "model.gguf"), ids).mean()
    assert abs(quantized - exact) / exact < 0.05


def trainer_in(out: Path, corpus: Path, folder: Path) -> train.Trainer:
    out.mkdir(exist_ok=True)
    flags = {
        "corpus": corpus, "tokenizer": folder / "tokenizer.json", "out": out, "init": folder,
        "steps": 6, "batch-tokens": 256, "window": 64, "long-window": 128, "long-from": 0.5,
        "warmup-steps": 2, "valid-every": 100, "device": "cpu", "repeat": "sums=1.5",
        "unrepeat-share": 0.5, "unrepeat-from": 0.3, "unrepeat-replies": 2, "unrepeat-every": 3,
    }  # fmt: skip
    argv = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    return train.Trainer(train.parse_arguments(argv))


def test_a_run_that_was_cut_off_ends_with_the_same_weights(folder, tmp_path):
    lines = [json.dumps(DOCUMENTS[index % 2]) + "\n" for index in range(80)]
    for name in ("train", "valid"):
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt") as file:
            file.writelines(lines)
    whole = trainer_in(tmp_path / "whole", tmp_path, folder)
    whole.run()
    before = trainer_in(tmp_path / "cut", tmp_path, folder)
    for _ in range(4):
        before.train_step()
    before.save()
    before.train_step()  # lost: after the checkpoint
    after = trainer_in(tmp_path / "cut", tmp_path, folder)
    after.run()
    assert after.tokens == whole.tokens
    for ours, theirs in zip(after.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)


def test_a_phrase_said_three_times_is_a_loop():
    assert has_loop("a little bit of a little bit of a little bit of it")
    assert has_loop("I do. I do like it. I do. I do.")
    assert has_loop("the total is $2+$+$+$+$+$")
    assert not has_loop("He went home. He went to bed. He went on. No, no, no!")
    assert not has_loop("")


def test_openings_are_spread_over_every_source_and_leave_known_prompts_out(tmp_path):
    path = tmp_path / "documents.jsonl"
    texts = [("a/x", f"a{at}") for at in range(8)] + [("b", "same"), ("b", "same"), ("b", "known")]
    documents = [{"source": s, "messages": [{"role": "user", "content": t}]} for s, t in texts]
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    openings = opening_prompts(path, 4, [["b", "known"]])
    assert openings == [["a", "a0"], ["a", "a2"], ["a", "a4"], ["a", "a6"], ["b", "same"]]


def test_loops_are_counted_by_sampling_and_source():
    rows = [
        {"source": source, "temperature": temperature, "topP": top_p, "loop": loop}
        for source, temperature, top_p, loop in (
            ("a", 0.0, 1.0, True),
            ("b", 0.0, 1.0, False),
            ("a", 0.7, 1.0, False),
            ("a", 0.7, 0.6, True),
        )
    ]
    assert count_loops(rows) == {
        "0.0, 1.0": {"all": "1 of 2", "a": "1 of 1", "b": "0 of 1"},
        "0.7, 1.0": {"all": "0 of 1", "a": "0 of 1"},
        "0.7, 0.6": {"all": "1 of 1", "a": "1 of 1"},
    }


def test_routes_agree_with_the_model_asked_one_document_at_a_time(tmp_path):
    """Padding and batching must not show: each document's routes are those it has alone."""
    from transformers import OlmoeConfig, OlmoeForCausalLM

    from routes import get_routes

    torch.manual_seed(3)
    config = OlmoeConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        num_experts=8,
        num_experts_per_tok=2,
    )
    model = OlmoeForCausalLM(config).eval()
    ids = torch.randint(6, 64, (3, 12))
    together = get_routes(model, ids)
    assert together.shape == (3, 12, 3, 2)
    for row in range(3):
        alone = get_routes(model, ids[row : row + 1, : 5 + row])
        assert torch.equal(alone[0], together[row, : 5 + row])


def test_a_learned_predictor_goes_on_from_the_file_it_wrote(tmp_path):
    model = PathPredictor(vocab=50, pages=12, embed=8, hidden=16).eval()
    shape = SimpleNamespace(layers=3, experts=4)
    export(model, shape, tmp_path / "routes.onnx")
    again = PathPredictor(vocab=50, pages=12, embed=8, hidden=16).eval()
    again.load_state_dict(read_state(tmp_path / "routes.onnx"))
    ids = torch.arange(40).view(2, 20)
    with torch.no_grad():
        assert torch.allclose(model(ids), again(ids), atol=0.02)
        assert not torch.allclose(model(ids), torch.zeros(2, 20, 12), atol=0.02)


def test_training_starts_from_a_gguf_file(folder, tmp_path):
    export_gguf(folder, tmp_path / "model.gguf", "test")
    given = ["--corpus=.", "--tokenizer=.", "--out=.", "--steps=1", f"--init={folder}"]
    kept = train.build_model(train.parse_arguments(given), None)
    given.append(f"--init-gguf={tmp_path / 'model.gguf'}")
    rounded = train.build_model(train.parse_arguments(given), None)
    assert torch.equal(rounded.final_norm, kept.final_norm)
    apart = (rounded.layers[0].gate_up - kept.layers[0].gate_up).abs()
    assert 0 < apart.mean() < 0.1 * kept.layers[0].gate_up.abs().mean()
