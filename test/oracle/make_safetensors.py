"""Makes test/golden/safetensors: tiny models of every architecture as the folders that transformers saves and loads.

Usage: python make_safetensors.py [NAME ...]     (all architectures, or those named)

The configurations are those of make_architectures.py, and OLMoE's. save_pretrained() writes config.json, names and shapes;
values are drawn from the names in the file, as the tests draw them again; from_pretrained() reads the folder. So neither the
names nor the layout of any tensor is written down here.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
import transformers as hf

from architecture_oracle import compress, draw_values, make_answers, write_golden
from architecture_shape import SHAPES, Shape
from make_architectures import ARCHITECTURES

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "safetensors"
LENGTH_BYTES = 8


def olmoe(shape: Shape) -> hf.PreTrainedConfig:
    return hf.OlmoeConfig(
        **shape.config(intermediate_size=shape.width),
        num_experts=shape.experts,
        num_experts_per_tok=shape.chosen,
        norm_topk_prob=shape.index == 1,
        clip_qkv=(None, 1.25, None)[shape.index],
    )


CONFIGS = {"olmoe": olmoe} | {
    name: lambda shape, maker=maker: maker(shape).config for name, maker in ARCHITECTURES.items()
}


def write_folder(config: hf.PreTrainedConfig, folder: Path) -> bytes:
    """The folder with drawn weights. Returns what lies in front of them: the length, and the directory."""
    hf.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    path = folder / "model.safetensors"
    data = path.read_bytes()
    end = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")
    entries = json.loads(data[LENGTH_BYTES:end])
    entries.pop("__metadata__", None)
    with path.open("wb") as file:
        file.write(data[:end])
        for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
            if entry["dtype"] != "F32":
                raise RuntimeError(f"{name} is {entry['dtype']}")
            file.write(draw_values(name, tuple(entry["shape"])).astype("<f4").tobytes())
    return data[:end]


def load_folder(folder: Path) -> torch.nn.Module:
    model, report = hf.AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
    )
    odd = {key: value for key, value in report.items() if value}
    if odd:
        raise RuntimeError(f"{folder}: {odd}")
    return model.eval()


def make_model(name: str, config: hf.PreTrainedConfig) -> dict:
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        header = write_folder(config, folder)
        return {
            "name": name,
            "vocabSize": config.vocab_size,
            "config": json.loads((folder / "config.json").read_text()),
            "header": compress(header),
            **make_answers(name, config.vocab_size, lambda: load_folder(folder)),
        }


def main() -> None:
    for name in sys.argv[1:] or CONFIGS:
        models = []
        for index in range(len(SHAPES)):
            models.append(make_model(f"{name}-{index}", CONFIGS[name](Shape(index))))
            print(f"{name}-{index}", file=sys.stderr)
        write_golden(GOLDEN / f"{name}.json", models)


if __name__ == "__main__":
    torch.set_num_threads(1)
    hf.logging.set_verbosity_error()
    main()
