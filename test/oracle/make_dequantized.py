"""Writes test/golden/dequantized-*.bin: weight blocks as a GGUF file holds them, and what the gguf package reads.

Each file is the blocks' bytes followed by the f32 values. The blocks are random bits with finite scales, among them the
largest, the smallest normal, subnormal, zero and negative ones. `f16-values.sha256` is the digest of the f32 values of
all 65,536 binary16 patterns that are not NaN, in ascending order of the pattern.

Run: python test/oracle/make_dequantized.py   (packages: test/oracle/requirements.txt)
"""

import hashlib
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize

GOLDEN = Path(__file__).parents[1] / "golden"
ROWS, COLS = 3, 96
SCALES = np.array([0x7BFF, 0xFBFF, 0x0400, 0x0001, 0x83FF, 0x0000, 0x8000, 0x3C00, 0x2E66], np.uint16)

rng = np.random.default_rng(7)


def finite16(kind: Type, count: int) -> np.ndarray:
    """Random 16-bit patterns; those that would be infinite or no number become the smallest ones."""
    exponent_mask = 0x7C00 if kind == Type.F16 else 0x7F80
    bits = rng.integers(0, 1 << 16, count, dtype=np.uint16)
    return np.where((bits & exponent_mask) == exponent_mask, bits & 0x8001, bits).astype(np.uint16)


def make_blocks(kind: Type) -> np.ndarray:
    """ROWS x COLS weights as the bytes of a GGUF tensor."""
    weights = ROWS * COLS
    if kind == Type.F32:
        return rng.standard_normal(weights).astype(np.float32).view(np.uint8)
    if kind in (Type.F16, Type.BF16):
        return finite16(kind, weights).view(np.uint8)
    data_bytes = 16 if kind == Type.Q4_0 else 32
    count = weights // 32
    data = rng.integers(0, 256, (count, data_bytes), dtype=np.uint8)
    scales = np.resize(SCALES, count).view(np.uint8).reshape(count, 2)
    return np.concatenate([scales, data], axis=1).reshape(-1)


for kind in (Type.F32, Type.F16, Type.BF16, Type.Q4_0, Type.Q8_0):
    blocks = make_blocks(kind)
    values = dequantize(blocks.reshape(ROWS, -1) if kind != Type.F32 else blocks.view(np.float32), kind)
    name = f"dequantized-{kind.name.lower()}.bin"
    (GOLDEN / name).write_bytes(blocks.tobytes() + np.ascontiguousarray(values, np.float32).tobytes())

patterns = np.arange(1 << 16, dtype=np.uint16)
values = patterns.view(np.float16).astype(np.float32)
digest = hashlib.sha256(values[~np.isnan(values)].tobytes()).hexdigest()
(GOLDEN / "f16-values.sha256").write_text(digest + "\n")
