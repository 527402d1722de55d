"""The learned predictor: a recurrent network that names all layers' experts from token ids alone.

Learns from a routing trace (routes.py, or `generate --trace`) and writes an ONNX file:

    ids    int64 [n]          tokens of one conversation, in order
    state  f32 [1, 1, hidden] the network's state before them; zeros at the start
    scores f32 [n, layers * experts]  P(the token uses the expert)
    states f32 [n, hidden]    the state behind each token

The embedding is kept in 8 bits with a scale a row, the other matrices in 16. After ExpertFlow
(arXiv 2410.17954), which forecasts the routing path before the pass; a gated recurrent unit costs
one small step a token where its encoder reads the whole prompt.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

BATCH_TOKENS = 2048
# The average token weighs as much as so many sightings of an id (src/routing/token-table.ts).
PRIOR_SIGHTINGS = 4
EMBEDDING_STD = 0.5
OPSET = 17


class Traced:
    """Conversations of a trace: ids [n] and experts [n, layers, k], -1 where a token used fewer."""

    def __init__(self, path: Path, most_tokens: int | None = None):
        self.documents: list[tuple[np.ndarray, np.ndarray]] = []
        ids: list[int] = []
        routes: list = []
        sequence = total = 0
        with path.open() as lines:
            header = json.loads(next(lines))
            self.model = header["model"]
            self.layers, self.experts = header["layers"], header["experts"]
            self.k = header["expertsPerToken"]

            def finish():
                if not ids:
                    return
                padded = [[r + [-1] * (self.k - len(r)) for r in token] for token in routes]
                self.documents.append((np.array(ids, np.int64), np.array(padded, np.int16)))
                ids.clear()
                routes.clear()

            for line in lines:
                token = json.loads(line)
                if token["sequence"] != sequence:
                    finish()
                    sequence = token["sequence"]
                    if most_tokens and total >= most_tokens:
                        break
                ids.append(token["token"])
                routes.append(token["routes"])
                total += 1
            finish()
        self.tokens = total

    def get_batches(self, seed: int):
        """Documents of like length: ids, targets [rows, width, pages] and weights."""
        order = sorted(range(len(self.documents)), key=lambda i: len(self.documents[i][0]))
        batches, at = [], 0
        while at < len(order):
            rows = 1
            while (
                at + rows < len(order)
                and (rows + 1) * len(self.documents[order[at + rows]][0]) <= BATCH_TOKENS
            ):
                rows += 1
            batches.append(order[at : at + rows])
            at += rows
        random.Random(seed).shuffle(batches)
        for batch in batches:
            yield self.pack(batch)

    def pack(self, batch: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        width = max(len(self.documents[i][0]) for i in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.int64)
        targets = torch.zeros(len(batch), width, self.layers * self.experts)
        weights = torch.zeros(len(batch), width)
        offsets = torch.arange(self.layers)[:, None] * self.experts
        for row, index in enumerate(batch):
            tokens, routes = self.documents[index]
            n = len(tokens)
            ids[row, :n] = torch.from_numpy(tokens)
            weights[row, :n] = 1
            experts = torch.from_numpy(routes.astype(np.int64))
            used = (experts >= 0).float().flatten(1)
            pages = (experts.clamp(min=0) + offsets).flatten(1)
            targets[row, :n].scatter_add_(1, pages, used)
        return ids, targets, weights


class PathPredictor(nn.Module):
    def __init__(self, vocab: int, pages: int, embed: int, hidden: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab, embed)
        self.dropout = nn.Dropout(0.1)
        self.gru = nn.GRU(embed, hidden, batch_first=True)
        self.head = nn.Linear(hidden + embed, pages)

    def forward(self, ids: Tensor) -> Tensor:
        embedded = self.dropout(self.embedding(ids))
        states, _ = self.gru(embedded)
        return self.head(torch.cat([self.dropout(states), embedded], -1))

    @torch.no_grad()
    def start_from_table(self, traced: Traced) -> None:
        """Begins where a table of each token id's uses is: what is left to learn is the context."""
        vocab, embed = self.embedding.weight.shape
        pages = self.head.out_features
        counts, sightings = torch.zeros(vocab, pages), torch.zeros(vocab, 1)
        for ids, targets, weights in traced.get_batches(0):
            real = weights.flatten() > 0
            flat = ids.flatten()[real]
            counts.index_add_(0, flat, targets.flatten(0, 1)[real])
            sightings.index_add_(0, flat, torch.ones(len(flat), 1))
        average = (counts.sum(0) / sightings.sum()).clamp(1e-4, 1 - 1e-4)
        shares = (counts + PRIOR_SIGHTINGS * average) / (sightings + PRIOR_SIGHTINGS)
        odds = torch.logit(shares.clamp(0.002, 0.998)) - torch.logit(average)
        # Frequent ids matter more.
        importance = sightings.sqrt() + 1
        _, _, directions = torch.linalg.svd(odds * importance, full_matrices=False)
        basis = directions[:embed]
        rows = odds @ basis.T
        scale = EMBEDDING_STD / rows.std()
        self.embedding.weight.copy_(rows * scale)
        nn.init.zeros_(self.head.weight)
        self.head.weight[:, -embed:] = basis.T / scale
        self.head.bias.copy_(torch.logit(average))


@torch.no_grad()
def evaluate(model: PathPredictor, traced: Traced) -> dict:
    """Log loss in nats a page, and the share of a layer's experts among its k best, by layer."""
    model.eval()
    loss = tokens = 0.0
    hits, needed = torch.zeros(traced.layers), torch.zeros(traced.layers)
    for ids, targets, weights in traced.get_batches(0):
        logits = model(ids)
        losses = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        loss += (losses.mean(-1) * weights).sum().item()
        tokens += weights.sum().item()
        by_layer = logits.view(*ids.shape, traced.layers, traced.experts)
        best = torch.zeros_like(by_layer).scatter_(-1, by_layer.topk(traced.k).indices, 1)
        wanted = targets.view_as(by_layer) * weights[..., None, None]
        hits += (best * wanted).sum((0, 1, 3))
        needed += wanted.sum((0, 1, 3))
    model.train()
    recall = hits / needed
    return {
        "nats": round(loss / tokens, 5),
        "recall": round(recall.mean().item(), 4),
        "by_layer": [round(value, 3) for value in recall.tolist()],
    }


def train(model: PathPredictor, traced: Traced, valid: Traced, minutes: float, rate: float) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    start = time.monotonic()
    step = epoch = 0
    while time.monotonic() - start < minutes * 60:
        for ids, targets, weights in traced.get_batches(epoch + 1):
            share = (time.monotonic() - start) / (minutes * 60)
            if share >= 1:
                break
            # Linear warm-up, then down to zero with the time that is left.
            factor = min(1, (step + 1) / 50) * (1 - share)
            optimizer.param_groups[0]["lr"] = rate * factor
            losses = nn.functional.binary_cross_entropy_with_logits(
                model(ids), targets, reduction="none"
            )
            loss = (losses.mean(-1) * weights).sum() / weights.sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
        epoch += 1
        elapsed = time.monotonic() - start
        print(
            f"{elapsed:.0f} s, epoch {epoch}, step {step}: {evaluate(model, valid)}",
            file=sys.stderr,
        )


def reorder(array: np.ndarray) -> np.ndarray:
    """Gates from PyTorch's order (reset, update, new) to ONNX's (update, reset, new), and back."""
    first, second, new = np.split(array, 3)
    return np.concatenate([second, first, new])


def read_state(path: Path) -> dict[str, Tensor]:
    """The parameters that an earlier run left: as they were (.pt), or rounded (.onnx)."""
    if path.suffix != ".onnx":
        return torch.load(path)
    parts = {
        part.name: numpy_helper.to_array(part).astype(np.float32)
        for part in onnx.load(path).graph.initializer
    }
    input_bias, state_bias = np.split(parts["gru_b"][0], 2)
    state = {
        "embedding.weight": parts["embedding_i8"] * parts["embedding_scale"],
        "gru.weight_ih_l0": reorder(parts["gru_w_f16"][0]),
        "gru.weight_hh_l0": reorder(parts["gru_r_f16"][0]),
        "gru.bias_ih_l0": reorder(input_bias),
        "gru.bias_hh_l0": reorder(state_bias),
        "head.weight": parts["head_f16"].T,
        "head.bias": parts["head_bias"],
    }
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in state.items()}


def export(model: PathPredictor, traced: Traced, path: Path) -> None:
    """Writes the file that the module's first words describe."""
    state = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    hidden = model.gru.hidden_size
    pages = traced.layers * traced.experts
    initializers, nodes = [], []

    def add(name: str, array: np.ndarray) -> str:
        initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add_half(name: str, array: np.ndarray) -> str:
        nodes.append(
            helper.make_node(
                "Cast", [add(f"{name}_f16", array.astype(np.float16))], [name], to=TensorProto.FLOAT
            )
        )
        return name

    embedding = state["embedding.weight"]
    scales = np.maximum(np.abs(embedding).max(1, keepdims=True), 1e-8) / 127
    add("embedding_i8", np.round(embedding / scales).astype(np.int8))
    add("embedding_scale", scales.astype(np.float32))
    nodes += [
        helper.make_node("Gather", ["embedding_i8", "ids"], ["rows_i8"], axis=0),
        helper.make_node("Cast", ["rows_i8"], ["rows"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["embedding_scale", "ids"], ["row_scale"], axis=0),
        helper.make_node("Mul", ["rows", "row_scale"], ["embedded"]),
        helper.make_node(
            "Unsqueeze", ["embedded", add("axis1", np.array([1], np.int64))], ["input"]
        ),
    ]
    gru_inputs = [
        "input",
        add_half("gru_w", reorder(state["gru.weight_ih_l0"])[None]),
        add_half("gru_r", reorder(state["gru.weight_hh_l0"])[None]),
        add(
            "gru_b",
            np.concatenate([reorder(state["gru.bias_ih_l0"]), reorder(state["gru.bias_hh_l0"])])[
                None
            ],
        ),
        "",
        "state",
    ]
    nodes += [
        # [n, 1, 1, hidden]
        helper.make_node(
            "GRU", gru_inputs, ["all_states"], hidden_size=hidden, linear_before_reset=1
        ),
        helper.make_node(
            "Reshape", ["all_states", add("flat", np.array([-1, hidden], np.int64))], ["states"]
        ),
        helper.make_node("Concat", ["states", "embedded"], ["features"], axis=1),
        helper.make_node(
            "MatMul", ["features", add_half("head", state["head.weight"].T)], ["products"]
        ),
        helper.make_node("Add", ["products", add("head_bias", state["head.bias"])], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "routing-path",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 1, hidden]),
        ],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", pages]),
            helper.make_tensor_value_info("states", TensorProto.FLOAT, ["n", hidden]),
        ],
        initializers,
    )
    file = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="webmoe tools/train"
    )
    file.ir_version = 8
    onnx.checker.check_model(file, full_check=True)
    path.write_bytes(file.SerializeToString())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trace", type=Path, required=True, help="of training documents")
    parser.add_argument(
        "--valid", type=Path, required=True, help="trace to measure on, never learnt"
    )
    parser.add_argument("--out", type=Path, required=True, help=".onnx")
    parser.add_argument(
        "--init", type=Path, help=".pt or .onnx of an earlier run, to learn on from"
    )
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--embed", type=int, default=80)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    traced, valid = Traced(arguments.trace), Traced(arguments.valid, 20_000)
    print(f"{traced.tokens} tokens to learn, {valid.tokens} to measure on", file=sys.stderr)
    pages = traced.layers * traced.experts
    model = PathPredictor(arguments.vocab, pages, arguments.embed, arguments.hidden)
    if arguments.init:
        model.load_state_dict(read_state(arguments.init))
    else:
        model.start_from_table(traced)
    print(f"before: {evaluate(model, valid)}", file=sys.stderr)
    train(model, traced, valid, arguments.minutes, arguments.rate)
    export(model, traced, arguments.out)
    torch.save(model.state_dict(), arguments.out.with_suffix(".pt"))
    print(json.dumps({"bytes": arguments.out.stat().st_size, **evaluate(model, valid)}))


if __name__ == "__main__":
    main()
