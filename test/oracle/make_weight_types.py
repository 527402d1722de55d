"""Makes test/golden/weight-types.json: a tiny OLMoE for every weight type, all matrices of that type.

A file keeps the header as the gguf package writes it; blocks are random bits with chosen scales, drawn again by the tests
from the tensors' names, so that no type needs a quantiser. Logits are transformers' on the weights that the gguf package
dequantises. Prompts are drawn until every routing is clear by ROUTER_MARGIN: llama.cpp rounds activations to 8 bits, and
another choice of experts would tell nothing.

Usage: python make_weight_types.py
"""

import base64
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize

from architecture_oracle import compress, draw_values, get_scale_and_offset, hash_indices, write_golden
from olmoe_gguf import Oracle, Shape, stays_f32, tensor_shapes, write_keys

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
SHAPE = Shape("", 4, 2, 256, 256, heads=4, kv_heads=4, layers=2, vocab=262, context=64)
PROMPT_LENGTHS = (6, 20)  # row by row, and in tiles
LAST_POSITIONS = 3  # of each prompt
ROUTER_MARGIN = 0.1
ATTEMPTS = 4000
DEVIATION = 0.1  # of the weights, about


@dataclass(frozen=True)
class Layout:
    """Bytes of a block that are not wholly random: at an offset, random bits under the mask, plus a value."""

    set: tuple[tuple[int, int, int], ...]


def half(at: int, value: float) -> tuple[tuple[int, int, int], ...]:
    """An f16 at an offset."""
    low, high = np.float16(value).tobytes()
    return (at, 0, low), (at + 1, 0, high)


def layout(kind: Type) -> Layout:
    """Scales that give weights a deviation near DEVIATION, and a mean near 0."""
    d = DEVIATION
    return Layout(
        {
            Type.F32: ((3, 0x80, 0x3D),),  # exponents -5 and -4
            Type.F16: ((1, 0x83, 0x2C),),  # exponent -4
            Type.BF16: ((1, 0x80, 0x3D),),
            Type.Q4_0: half(0, d / 4.6),
            Type.Q4_1: half(0, d / 4.6) + half(2, -7.5 * d / 4.6),
            Type.Q5_0: half(0, d / 9.2),
            Type.Q5_1: half(0, d / 9.2) + half(2, -15.5 * d / 9.2),
            Type.Q8_0: half(0, d / 74),
            Type.Q2_K: half(80, d / 13) + half(82, 1.5 * d / 13),
            Type.Q3_K: half(108, d / 42),
            Type.Q4_K: half(0, d / 270) + half(2, 7.5 * d / 270),
            Type.Q5_K: half(0, d / 560) + half(2, 15.5 * d / 560),
            Type.Q6_K: half(208, d / 1360),
            Type.IQ4_NL: half(0, d / 72),
            Type.MXFP4: ((0, 0, 122),),
        }[kind]
    )


def draw_blocks(name: str, blocks: int, block_bytes: int, rule: Layout) -> np.ndarray:
    """Bytes of a tensor: the top ones of the hash that also draws values."""
    drawn = (hash_indices(name, blocks * block_bytes) >> np.uint32(24)).astype(np.uint8).reshape(blocks, block_bytes)
    for at, mask, value in rule.set:
        drawn[:, at] = drawn[:, at] & mask | value
    return drawn.reshape(-1)


def make_tensors(kind: Type) -> tuple[dict[str, dict], dict[str, np.ndarray]]:
    """Rules for the tests, and bytes."""
    weights, block_bytes = GGML_QUANT_SIZES[kind]
    rules, data = {}, {}
    for name, dims in tensor_shapes(SHAPE).items():
        count = math.prod(dims)
        if stays_f32(name):
            rules[name] = {"count": count, **dict(zip(("scale", "offset"), get_scale_and_offset(name, dims)))}
            data[name] = draw_values(name, dims)
        else:
            rules[name] = {"blocks": count // weights, "blockBytes": block_bytes, "set": layout(kind).set}
            data[name] = draw_blocks(name, count // weights, block_bytes, layout(kind)).reshape(*dims[:-1], -1)
    return rules, data


def write_file(path: Path, kind: Type, data: dict[str, np.ndarray]) -> bytes:
    """Writes the model; returns its header."""
    writer = gguf.GGUFWriter(path, "olmoe")
    write_keys(writer, SHAPE, kind.name.lower())
    for name, values in data.items():
        writer.add_tensor(name, values, raw_dtype=None if stays_f32(name) else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()[: gguf.GGUFReader(path).data_offset]


def draw_prompt(oracle: Oracle, rng: np.random.Generator, length: int) -> list[int]:
    """Random tokens; the first whose routing is unclear is drawn again."""
    token_ids = rng.integers(0, SHAPE.vocab, length).tolist()
    for _ in range(ATTEMPTS):
        oracle.run(token_ids)
        unclear = (oracle.router_margins() <= ROUTER_MARGIN).nonzero()
        if not len(unclear):
            return token_ids
        token_ids[int(unclear[0])] = int(rng.integers(0, SHAPE.vocab))
    raise RuntimeError(f"a prompt of {length} tokens keeps an unclear routing for {ATTEMPTS} draws: use other weights")


def make(kind: Type, folder: Path) -> dict:
    """Everything golden about one type."""
    path = folder / "model.gguf"
    rules, data = make_tensors(kind)
    header = write_file(path, kind, data)
    matrix = dequantize(data["blk.0.attn_q.weight"].view(np.float32 if kind == Type.F32 else np.uint8), kind)
    oracle = Oracle(path)
    rng = np.random.default_rng(1)
    prompts, rows, lead = [], [], []
    for length in PROMPT_LENGTHS:
        token_ids = draw_prompt(oracle, rng, length)
        positions = list(range(max(0, length - LAST_POSITIONS), length))
        logits = oracle.run(token_ids)
        prompts.append({"tokenIds": token_ids, "positions": positions})
        rows.append(logits[positions])
        two = logits.topk(2).values
        lead.append((two[:, 0] - two[:, 1]).median().item())
    print(kind.name, "deviation", round(float(matrix.std()), 3), "mean", round(float(matrix.mean()), 3), "lead", lead)
    logits = torch.cat(rows).numpy().astype("<f4")
    return {
        "name": kind.name.lower(),
        "vocabSize": SHAPE.vocab,
        "header": compress(header),
        "tensors": rules,
        "prompts": prompts,
        "decodeSteps": 0,
        "logits": base64.b64encode(logits.tobytes()).decode(),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    kinds = (Type.F32, Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.Q2_K)
    kinds += (Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.IQ4_NL, Type.MXFP4)
    with tempfile.TemporaryDirectory() as folder:
        write_golden(GOLDEN / "weight-types.json", [make(kind, Path(folder)) for kind in kinds])
