"""Writes test/golden/dequantized-*.bin: weight blocks as a GGUF file holds them, and what the gguf package reads.

Each file is the blocks' bytes followed by the f32 values. The blocks are random bits with finite scales, among them the
largest, the smallest normal, subnormal, zero and negative ones. `f16-values.sha256` is the digest of the f32 values of
all 65,536 binary16 patterns that are not NaN, in ascending order of the pattern.

Run: python test/oracle/make_dequantized.py   (packages: test/oracle/requirements.txt)
"""

import hashlib
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize

GOLDEN = Path(__file__).parents[1] / "golden"
ROWS = 3
SCALES = np.array([0x7BFF, 0xFBFF, 0x0400, 0x0001, 0x83FF, 0x0000, 0x8000, 0x3C00, 0x2E66], np.uint16)

rng = np.random.default_rng(7)


def finite16(kind: Type, count: int) -> np.ndarray:
    """Random 16-bit patterns; those that would be infinite or no number become the smallest ones."""
    exponent_mask = 0x7C00 if kind == Type.F16 else 0x7F80
    bits = rng.integers(0, 1 << 16, count, dtype=np.uint16)
    return np.where((bits & exponent_mask) == exponent_mask, bits & 0x8001, bits).astype(np.uint16)


# Where a block has its f16 scales and minima, by type; the other bytes are random.
HALVES = {
    Type.Q4_0: (0,),
    Type.Q4_1: (0, 2),
    Type.Q5_0: (0,),
    Type.Q5_1: (0, 2),
    Type.Q8_0: (0,),
    Type.Q2_K: (80, 82),
    Type.Q3_K: (108,),
    Type.Q4_K: (0, 2),
    Type.Q5_K: (0, 2),
    Type.Q6_K: (208,),
    Type.IQ4_NL: (0,),
    Type.MXFP4: (),
}


def make_blocks(kind: Type) -> np.ndarray:
    """ROWS rows of three blocks (at least 96 weights) as the bytes of a GGUF tensor."""
    block_weights, block_bytes = GGML_QUANT_SIZES[kind]
    if kind == Type.F32:
        return rng.standard_normal(ROWS * 96).astype(np.float32).view(np.uint8)
    if kind in (Type.F16, Type.BF16):
        return finite16(kind, ROWS * 96).view(np.uint8)
    count = ROWS * 3
    blocks = rng.integers(0, 256, (count, block_bytes), dtype=np.uint8)
    for shift, at in enumerate(HALVES[kind]):
        blocks[:, at : at + 2] = np.roll(np.resize(SCALES, count), 2 * shift).view(np.uint8).reshape(count, 2)
    if kind == Type.MXFP4:
        blocks[:, 0] = [0, 1, 2, 126, 127, 128, 200, 254, 255]
    return blocks.reshape(-1)


for kind in (Type.F32, Type.F16, Type.BF16, *HALVES):
    blocks = make_blocks(kind)
    with np.errstate(over="ignore"):
        values = dequantize(blocks.reshape(ROWS, -1) if kind != Type.F32 else blocks.view(np.float32), kind)
    name = f"dequantized-{kind.name.lower()}.bin"
    (GOLDEN / name).write_bytes(blocks.tobytes() + np.ascontiguousarray(values, np.float32).tobytes())

patterns = np.arange(1 << 16, dtype=np.uint16)
values = patterns.view(np.float16).astype(np.float32)
digest = hashlib.sha256(values[~np.isnan(values)].tobytes()).hexdigest()
(GOLDEN / "f16-values.sha256").write_text(digest + "\n")
