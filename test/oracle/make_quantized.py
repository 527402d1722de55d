"""Writes test/golden/quantized.bin: f32 weights, then what the gguf package quantises them to: Q8_0, then Q4_0.

48 blocks: random ones of many sizes, zeros, ties of the largest magnitude, halves between two codes, subnormal scales.

Run: python test/oracle/make_quantized.py   (packages: test/oracle/requirements.txt)
"""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import quantize

rng = np.random.default_rng(5)
blocks = rng.standard_normal((48, 32)) * np.exp2(rng.integers(-12, 12, (48, 1)))
blocks[0] = 0
blocks[1, :] = 0
blocks[1, 7] = -3.5
blocks[2] = np.where(np.arange(32) % 2 == 0, 8, -8)  # the first of equal magnitudes decides
blocks[3] = (np.arange(32) - 15.5) / 2  # halves
blocks[4] = np.arange(32) * 4 + 3
blocks[5] *= np.exp2(-30.0)  # the f16 scale is subnormal or zero
blocks[6] *= np.exp2(-16.0)
values = blocks.astype(np.float32)
with np.errstate(over="ignore", divide="ignore"):
    parts = [values, quantize(values, Type.Q8_0), quantize(values, Type.Q4_0)]
(Path(__file__).parents[1] / "golden/quantized.bin").write_bytes(b"".join(part.tobytes() for part in parts))
