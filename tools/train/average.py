"""Averages the weights of models that were trained on from the same weights.

Models of one ancestor lie close enough for their mean to be a model, often a better one than each
(Wortsman et al., arXiv 2203.05482).
"""

import argparse
from pathlib import Path

import torch

from export import export_huggingface
from olmoe import Olmoe
from weights import load_huggingface


@torch.no_grad()
def average(models: list[tuple[Olmoe, float]]) -> Olmoe:
    """The first model, its weights replaced by the mean; weights need not sum to 1."""
    total = sum(weight for _, weight in models)
    result = models[0][0]
    parameters = zip(*(model.parameters() for model, _ in models), strict=True)
    for same in parameters:
        pairs = zip(same, models, strict=True)
        same[0].copy_(sum(values * (weight / total) for values, (_, weight) in pairs))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("folder", nargs="+", metavar="FOLDER=WEIGHT", help="Hugging Face folders; 1 is even")
    add("--out", type=Path, required=True)
    arguments = parser.parse_args()
    parts = [part.rsplit("=", 1) for part in arguments.folder]
    mean = average([(load_huggingface(Path(folder)), float(weight)) for folder, weight in parts])
    export_huggingface(mean, Path(parts[0][0]) / "tokenizer.json", arguments.out)


if __name__ == "__main__":
    main()
