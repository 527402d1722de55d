"""Writes golden/routing-path.onnx, a tiny learned predictor with random weights, and what PyTorch says it answers."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tools" / "train"))

from learned import PathPredictor, export  # noqa: E402

LAYERS, EXPERTS, VOCAB, EMBED, HIDDEN = 2, 4, 16, 6, 8


def main() -> None:
    torch.manual_seed(5)
    model = PathPredictor(VOCAB, LAYERS * EXPERTS, EMBED, HIDDEN).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    ids = torch.randint(VOCAB, (1, 12))
    with torch.no_grad():
        scores = model(ids).sigmoid()[0]
    golden = HERE.parent / "golden"
    export(model, SimpleNamespace(layers=LAYERS, experts=EXPERTS), golden / "routing-path.onnx")
    values = [[round(score, 6) for score in token] for token in scores.tolist()]
    text = json.dumps({"tokenIds": ids[0].tolist(), "scores": values})
    (golden / "routing-path.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
