"""Tiny random models of every architecture: a GGUF header written by the gguf package, weights that both sides draw from
tensor names, and what transformers computes from them.

Owns drawing, writing and running. Which models there are: make_architectures.py; the same as safetensors:
make_safetensors.py.
"""

import base64
import gzip
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

PROMPT_LENGTHS = (1, 7, 130)
LAST_POSITIONS = 3  # of the long prompt
DECODE_STEPS = 8
NOISE = 1e-5  # of the embedding: what routing must bear without another choice
MAX_NOISE_EFFECT = 3e-4  # share of the largest logit
MAX_ROUNDING = 2e-5  # likewise, of float32 against float64
ATTEMPTS = 200


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file, and the parameter (or the part of one) it is in transformers."""

    name: str
    shape: tuple[int, ...]  # row-major
    parameter: str  # empty: none, transformers has it in the configuration or not at all
    permute_heads: int = 0  # llama.cpp's converters reorder rows of q and k for an interleaved rotation
    part: int = 0  # order within a parameter that several tensors make
    axis: int = 0  # along which they are joined
    target: tuple[int, ...] | None = None  # the parameter's shape, where it differs
    interleaved: bool = False  # transformers has the last two axes swapped, and the parts in alternate columns
    transposed: bool = False  # transformers has the last two axes swapped
    values: tuple[float, ...] | None = None  # instead of drawn ones


@dataclass
class Spec:
    """One tiny model."""

    name: str
    architecture: str  # of the GGUF file
    config: PreTrainedConfig
    keys: dict[str, object]
    tensors: list[Tensor] = field(default_factory=list)


def hash_indices(name: str, count: int) -> np.ndarray:
    """32 bits for each index of a tensor: FNV-1a of its name as seed, then a mixer."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x01000193) & 0xFFFFFFFF
    x = (np.arange(count, dtype=np.uint64) * 0x9E3779B9 + seed).astype(np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        x ^= x >> np.uint32(shift)
        x *= np.uint32(factor)
    return x


def draw(name: str, count: int) -> np.ndarray:
    """Uniform values in [-1, 1) from a tensor's name."""
    return (hash_indices(name, count) >> np.uint32(8)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def get_scale_and_offset(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Norms lie around 1, biases and sinks within 1/2; matrices spread logits and routes well. Scales are powers of two."""
    if "norm" in name and name.endswith(".weight"):
        return 0.5, 1.0
    if len(shape) == 1 or name.endswith("bias"):
        return 0.25, 0.0
    return 2.0 ** round(math.log2(3 / math.sqrt(shape[-1]))), 0.0


def draw_values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    scale, offset = get_scale_and_offset(name, shape)
    values = draw(name, math.prod(shape)) * np.float32(scale) + np.float32(offset)
    return values.astype(np.float32).reshape(shape)


def draw_tensor(tensor: Tensor) -> np.ndarray:
    return draw_values(tensor.name, tensor.shape) if tensor.values is None else np.array(tensor.values, np.float32)


def unpermute(values: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of what llama.cpp's converters do to q and k."""
    rows = values.shape[0]
    return values.reshape(heads, rows // heads // 2, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def state_dict(spec: Spec) -> dict[str, torch.Tensor]:
    parts: dict[str, dict[int, tuple[Tensor, np.ndarray]]] = {}
    for tensor in spec.tensors:
        values = draw_tensor(tensor)
        if tensor.permute_heads:
            values = unpermute(values, tensor.permute_heads)
        if tensor.transposed or (tensor.interleaved and values.ndim == 3):
            values = values.swapaxes(1, 2)
        if tensor.parameter:
            parts.setdefault(tensor.parameter, {})[tensor.part] = (tensor, values)
    state = {}
    for parameter, found in parts.items():
        ordered = [found[part] for part in sorted(found)]
        first = ordered[0][0]
        pieces = [values for _, values in ordered]
        if first.interleaved:
            joined = np.stack(pieces, axis=-1).reshape(*pieces[0].shape[:-1], -1)
        else:
            joined = np.concatenate(pieces, axis=first.axis)
        state[parameter] = torch.from_numpy(joined.reshape(first.target or joined.shape).copy())
    return state


def load(spec: Spec) -> torch.nn.Module:
    spec.config._attn_implementation = "eager"
    spec.config._experts_implementation = "eager"
    model = AutoModelForCausalLM.from_config(spec.config).eval()
    state = state_dict(spec)
    if spec.config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise RuntimeError(f"{spec.name}: missing {missing}, unexpected {unexpected}")
    return model.float()


@torch.no_grad()
def run(model: torch.nn.Module, token_ids: list[int]) -> torch.Tensor:
    """Logits [tokens, vocab] of a whole sequence."""
    return model(torch.tensor([token_ids]), use_cache=False).logits[0].double()


def write_golden(path: Path, models: list[dict]) -> None:
    """One line per model."""
    path.parent.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(model, separators=(",", ":")) for model in models)
    path.write_text(f"[\n{lines}\n]\n")


def is_robust(model: torch.nn.Module, exact: torch.nn.Module, noisy: torch.nn.Module, token_ids: list[int]) -> bool:
    """Whether neither float32 nor a little noise makes a router choose otherwise."""
    reference = run(exact, token_ids)
    largest = reference.abs().max()
    rounding = (run(model, token_ids) - reference).abs().max() / largest
    noise = (run(noisy, token_ids) - reference).abs().max() / largest
    return bool(rounding < MAX_ROUNDING and noise < MAX_NOISE_EFFECT)


def draw_prompts(name: str, vocab: int, load_model: Callable[[], torch.nn.Module]) -> list[list[int]]:
    """One per length, the long one with its continuation; drawn again until no routing is a near-tie."""
    model = load_model()
    exact = load_model().double()
    noisy = load_model().double()
    rng = np.random.default_rng(1)
    with torch.no_grad():
        embedding = noisy.get_input_embeddings().weight
        embedding.mul_(1 + NOISE * torch.from_numpy(rng.uniform(-1, 1, embedding.shape)))
    prompts = []
    for length in PROMPT_LENGTHS:
        total = length + (DECODE_STEPS if length == max(PROMPT_LENGTHS) else 0)
        for _ in range(ATTEMPTS):
            token_ids = rng.integers(0, vocab, total).tolist()
            if is_robust(model, exact, noisy, token_ids):
                prompts.append(token_ids)
                break
        else:
            raise RuntimeError(f"{name}: every prompt of {length} tokens has a near-tie")
    return prompts


def kept_positions(length: int) -> list[int]:
    """All of a short prompt; the last of the long one, and of its continuation."""
    if length <= DECODE_STEPS:
        return list(range(length))
    return list(range(length - DECODE_STEPS - LAST_POSITIONS, length))


def write_header(spec: Spec) -> bytes:
    """What the gguf package writes in front of the tensors' bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        writer = gguf.GGUFWriter(path, spec.architecture)
        writer.add_name(spec.name)
        for key, value in spec.keys.items():
            write_key(writer, f"{spec.architecture}.{key}", value)
        vocabulary = [f"t{i}" for i in range(spec.config.vocab_size)]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(vocabulary)
        writer.add_token_types([1] * len(vocabulary))
        writer.add_token_merges(["t 1"])
        writer.add_eos_token_id(1)
        for tensor in spec.tensors:
            writer.add_tensor(tensor.name, np.zeros(tensor.shape, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        size = gguf.GGUFReader(path).data_offset
        return path.read_bytes()[:size]


def write_key(writer: gguf.GGUFWriter, key: str, value: object) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def make_answers(name: str, vocab: int, load_model: Callable[[], torch.nn.Module]) -> dict:
    """Prompts, and what the model makes of them."""
    torch.manual_seed(0)
    model = load_model()
    prompts = draw_prompts(name, vocab, load_model)
    rows = [run(model, token_ids)[kept_positions(len(token_ids))] for token_ids in prompts]
    logits = torch.cat(rows).numpy().astype("<f4")
    return {
        "prompts": [{"tokenIds": ids, "positions": kept_positions(len(ids))} for ids in prompts],
        "decodeSteps": DECODE_STEPS,
        "logits": base64.b64encode(logits.tobytes()).decode(),
    }


def compress(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def make(spec: Spec) -> dict:
    """Everything golden about one model."""
    return {
        "name": spec.name,
        "vocabSize": spec.config.vocab_size,
        "header": compress(write_header(spec)),
        "tensors": {
            tensor.name: {"values": tensor.values}
            if tensor.values is not None
            else {"count": math.prod(tensor.shape), **dict(zip(("scale", "offset"), get_scale_and_offset(tensor.name, tensor.shape)))}
            for tensor in spec.tensors
        },
        **make_answers(spec.name, spec.config.vocab_size, lambda: load(spec)),
    }
