"""The weights of a GGUF file that export.py wrote, as a folder in Hugging Face's names."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

from export import GGUF_LAYER, GGUF_OUTER


@contextmanager
def dequantized(folder: Path, gguf_file: Path | None) -> Iterator[Path]:
    """A folder with the weights of `gguf_file` in f32; without one, `folder` itself."""
    if gguf_file is None:
        yield folder
        return
    arrays = {}
    for tensor in gguf.GGUFReader(gguf_file).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        arrays[tensor.name] = torch.from_numpy(np.array(values, np.float32))
    state = {theirs: arrays.pop(name) for theirs, (name, _) in GGUF_OUTER.items()}
    layer_names = {name: theirs for theirs, (name, _) in GGUF_LAYER.items()}
    for full_name, values in arrays.items():
        _, layer, name = full_name.split(".", 2)
        prefix = f"model.layers.{layer}."
        if name in layer_names:
            state[prefix + layer_names[name]] = values
            continue
        projection = name.split("_")[1]  # ffn_gate_exps.weight
        for expert, matrix in enumerate(values):
            theirs = f"{prefix}mlp.experts.{expert}.{projection}_proj.weight"
            state[theirs] = matrix.contiguous()
    with tempfile.TemporaryDirectory() as scratch:
        save_file(state, Path(scratch) / "model.safetensors", metadata={"format": "pt"})
        (Path(scratch) / "config.json").write_text((folder / "config.json").read_text())
        yield Path(scratch)
