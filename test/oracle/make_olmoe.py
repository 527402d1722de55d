"""Makes test/golden: tiny random OLMoE models as GGUF, and what transformers computes from those very files.

Usage: python make_olmoe.py [NAME_PREFIX]     (all models, or those whose name starts with the prefix)
"""

import gzip
import json
import math
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type

import byte_level
from olmoe_gguf import Oracle, Shape, stays_f32, tensor_shapes, top1_margin, write_gguf

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
BLOCK = 32  # values of a quantisation block
DICTIONARY = 64  # distinct blocks a model is built from
PROMPT_LENGTHS = (1, 7, 65)
LAST_POSITIONS = 3  # of the long prompt
DECODE_PROMPT, DECODE_STEPS = 1, 8
MIN_ROUTER_MARGIN = 1e-4  # probability; below, float32 rounding could pick another expert
MIN_TOP1_MARGIN = 5e-3  # share of the largest logit, at the decoded positions: above twice the widest tolerance
ATTEMPTS = 1000
SEED = 1

ALL_FORMATS = ("f32", "f16", "bf16", "q4_0", "q8_0")
E16K4 = Shape(
    "e16k4", 16, 4, 128, 64, heads=4, kv_heads=4, layers=3, vocab=300, rope_theta=5e5, chat=True, add_bos=True
)
SHAPES = {
    Shape("e5k1-gqa", 5, 1, 96, 32, heads=3, kv_heads=1, layers=2, vocab=268, chat=True): ALL_FORMATS,
    Shape("e60k8", 60, 8, 160, 96, heads=5, kv_heads=5, layers=2, vocab=265, rope_theta=5e4): ("f32", "q4_0_mixed"),
    Shape(
        "e8k8-norm-clip", 8, 8, 64, 32, heads=4, kv_heads=2, layers=2, vocab=271, clip_qkv=1.25, normalize_top_k=True
    ): ("f32",),
    E16K4: ALL_FORMATS,
    replace(E16K4, name="e16k4-tied", tied=True): ("f32", "q4_0"),
    Shape("e1k1", 1, 1, 64, 32, heads=2, kv_heads=2, layers=2, vocab=262): ("f32",),
}


def draw_matrix(rng: np.random.Generator, dims: tuple[int, ...], dictionary: np.ndarray) -> np.ndarray:
    """A random matrix whose rows are distinct sequences of dictionary blocks, so that gzip can shrink the file.

    Rows of a single block are drawn afresh: the dictionary has too few of them.
    """
    per_row = dims[-1] // BLOCK
    if per_row == 1:
        return rng.normal(0, dictionary.std(), dims).astype(np.float32)
    codes = rng.choice(DICTIONARY**per_row, math.prod(dims[:-1]), replace=False)
    picks = codes[:, None] // DICTIONARY ** np.arange(per_row) % DICTIONARY
    return dictionary[picks].reshape(dims)


def draw_weights(shape: Shape, seed: int) -> dict[str, np.ndarray]:
    """All tensors of a model; large enough (2 / sqrt(width)) that logits and routing are well spread."""
    rng = np.random.default_rng(seed)
    dictionary = rng.normal(0, 2 / math.sqrt(shape.hidden), (DICTIONARY, BLOCK)).astype(np.float32)
    return {
        name: rng.uniform(0.5, 1.5, dims).astype(np.float32) if "norm" in name else draw_matrix(rng, dims, dictionary)
        for name, dims in tensor_shapes(shape).items()
    }


def tensor_type(name: str, weight_format: str) -> Type:
    """Storage type of one tensor. `q4_0_mixed` is the embedded model's recipe: experts Q4_0, other matrices Q8_0."""
    if stays_f32(name):
        return Type.F32
    if weight_format == "q4_0_mixed":
        return Type.Q4_0 if "_exps" in name else Type.Q8_0
    return Type[weight_format.upper()]


def first_near_tie(oracle: Oracle, token_ids: list[int]) -> int:
    """First position whose routing is a near-tie, or the prompt's length."""
    oracle.run(token_ids)
    ties = (oracle.router_margins() <= MIN_ROUTER_MARGIN).nonzero()
    return int(ties[0]) if len(ties) else len(token_ids)


def draw_prompt(oracle: Oracle, rng: np.random.Generator, length: int) -> list[int]:
    """Random token ids, special tokens included; a token whose routing is a near-tie is drawn again."""
    token_ids = rng.integers(0, oracle.config.vocab_size, length).tolist()
    for _ in range(ATTEMPTS):
        tie = first_near_tie(oracle, token_ids)
        if tie == length:
            return token_ids
        token_ids[tie] = int(rng.integers(0, oracle.config.vocab_size))
    raise RuntimeError(
        f"a prompt of {length} tokens keeps its router near-ties for {ATTEMPTS} draws: use other weights"
    )


def draw_prompts(oracle: Oracle, seed: int) -> list[list[int]]:
    """One prompt per length; the one that is continued is drawn until its continuation is robust."""
    rng = np.random.default_rng(seed)
    prompts = [draw_prompt(oracle, rng, length) for length in PROMPT_LENGTHS]
    for _ in range(ATTEMPTS):
        if decodes_robustly(oracle, prompts[DECODE_PROMPT]):
            return prompts
        prompts[DECODE_PROMPT] = draw_prompt(oracle, rng, PROMPT_LENGTHS[DECODE_PROMPT])
    raise RuntimeError(f"{ATTEMPTS} prompts all decode with near-ties: use other weights")


def run_prompts(oracle: Oracle, prompts: list[list[int]]) -> tuple[list[dict], list[torch.Tensor], float]:
    """Index entries and logits of the prompts, and the smallest router margin."""
    entries, logits, margin = [], [], 1.0
    for token_ids in prompts:
        first = max(0, len(token_ids) - LAST_POSITIONS) if len(token_ids) > LAST_POSITIONS * 4 else 0
        logits.append(oracle.run(token_ids)[first:])
        entries.append({"tokenIds": token_ids, "positions": list(range(first, len(token_ids)))})
        margin = min(margin, oracle.router_margins().min().item())
    return entries, logits, margin


def route(oracle: Oracle, token_ids: list[int]) -> list[dict]:
    """Chosen experts and their weights, in router order, per layer and position."""
    oracle.run(token_ids)
    return [
        {"experts": ids.tolist(), "weights": [[round(value, 8) for value in row] for row in weights.tolist()]}
        for _, weights, ids in oracle.routers
    ]


def decode_greedily(oracle: Oracle, prompt: list[int]) -> tuple[list[int], torch.Tensor, float]:
    """Greedy ids, the logits [steps, vocab] each was chosen from, and the smallest router margin."""
    token_ids, steps, margin = list(prompt), [], 1.0
    for _ in range(DECODE_STEPS):
        steps.append(oracle.run(token_ids)[-1])
        margin = min(margin, oracle.router_margins().min().item())
        token_ids.append(int(steps[-1].argmax()))
    return token_ids[len(prompt) :], torch.stack(steps), margin


def decodes_robustly(oracle: Oracle, prompt: list[int]) -> bool:
    """Whether no near-tie lets a correct float32 engine continue differently, and no end token comes up."""
    chosen, steps, router_margin = decode_greedily(oracle, prompt)
    wide = router_margin > MIN_ROUTER_MARGIN and top1_share(steps) > MIN_TOP1_MARGIN
    return wide and byte_level.END_ID not in chosen


def top1_share(logits: torch.Tensor) -> float:
    """Smallest gap between the two largest logits, as a share of the largest magnitude."""
    return top1_margin(logits) / logits.abs().max().item()


def compute(oracle: Oracle, prompts: list[list[int]]) -> tuple[dict, np.ndarray]:
    """Everything golden about one file: index entry, and all logits in the order of the entry."""
    entries, logits, prompt_margin = run_prompts(oracle, prompts)
    chosen, steps, decode_margin = decode_greedily(oracle, prompts[DECODE_PROMPT])
    entry = {
        "routerMargin": min(prompt_margin, decode_margin),
        "decodeMargin": top1_share(steps),
        "prompts": entries,
        "routing": {"prompt": DECODE_PROMPT, "layers": route(oracle, prompts[DECODE_PROMPT])},
        "decode": {"prompt": DECODE_PROMPT, "tokenIds": chosen},
    }
    return entry, torch.cat([*logits, steps]).numpy().astype("<f4")


def model_config(oracle: Oracle) -> dict:
    """The configuration in the words of src/checkpoint/model-config.ts."""
    config = oracle.config
    head_dim = config.hidden_size // config.num_attention_heads
    return {
        "architecture": "olmoe",
        "layers": config.num_hidden_layers,
        "hiddenSize": config.hidden_size,
        "vocabSize": config.vocab_size,
        "contextLength": config.max_position_embeddings,
        "norm": {"kind": "rms", "epsilon": config.rms_norm_eps},
        "embeddingScale": 1,
        "residualScale": 1,
        "logitScale": 1,
        "tiedHead": config.tie_word_embeddings,
        "headBias": False,
        "mixers": ["full"] * config.num_hidden_layers,
        "attention": {
            "heads": config.num_attention_heads,
            "kvHeads": config.num_key_value_heads,
            "headDim": head_dim,
            "scale": head_dim**-0.5,
            "qkNorm": "full",
            "rope": {
                "theta": config.rope_parameters["rope_theta"],
                "dims": head_dim,
                "pairing": "half",
                "scaling": None,
            },
            "clipQkv": config.clip_qkv,
            "window": None,
            "qkvBias": False,
            "outputBias": False,
            "hasSinks": False,
            "latent": None,
        },
        "convolution": None,
        "moe": {
            "experts": config.num_experts,
            "rounds": None,
            "layersPerGroup": 1,
            "expertsPerToken": config.num_experts_per_tok,
            "expertWidth": config.intermediate_size,
            "router": {
                "scoring": "softmax",
                "logitBias": False,
                "choiceBias": False,
                "groups": None,
                "normalize": config.norm_topk_prob,
                "sumEpsilon": 0,
                "sumFloor": 0,
                "scale": 1,
                "jitter": 0,
                "scoreNorm": None,
                "nullExperts": 0,
                "topP": None,
                "stateWidth": None,
            },
            "activation": {"kind": "silu"},
            "isGated": True,
            "hasFactor": False,
            "expertBias": False,
            "shared": None,
        },
        "moeLayers": list(range(config.num_hidden_layers)),
        "denseWidth": None,
    }


def make_file(folder: Path, shape: Shape, weight_format: str, seed: int) -> Path:
    """Writes one GGUF of the shape's model for this seed."""
    name = f"{shape.name}-{weight_format.replace('_mixed', '')}"
    weights = draw_weights(shape, seed)
    path = folder / f"{name}.gguf"
    write_gguf(path, shape, name, weights, {tensor: tensor_type(tensor, weight_format) for tensor in weights})
    return path


def write_golden(path: Path) -> dict:
    """Puts one model and its logits into test/golden; returns its catalogue entry."""
    oracle = Oracle(path)
    entry, logits = compute(oracle, draw_prompts(oracle, SEED))
    (GOLDEN / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
    (GOLDEN / f"{path.stem}.logits.f32").write_bytes(logits.tobytes())
    print(path.stem, "router margin", entry["routerMargin"], "decode margin", entry["decodeMargin"], file=sys.stderr)
    return {
        "name": path.stem,
        "file": f"{path.name}.gz",
        "logitsFile": f"{path.stem}.logits.f32",
        "format": path.stem.rsplit("-", 1)[1],
        "tiedEmbeddings": oracle.config.tie_word_embeddings,
        "config": model_config(oracle),
        **entry,
    }


def make_shape(shape: Shape, formats: tuple[str, ...]) -> list[dict]:
    """Makes every format of a shape from the same weights; returns their catalogue entries."""
    with tempfile.TemporaryDirectory() as folder:
        return [write_golden(make_file(Path(folder), shape, weight_format, SEED)) for weight_format in formats]


def main() -> None:
    """Makes the chosen models and rewrites their entries of the catalogue."""
    prefix = sys.argv[1] if len(sys.argv) > 1 else ""
    catalogue = GOLDEN / "catalogue.json"
    known = {entry["name"]: entry for entry in json.loads(catalogue.read_text())} if catalogue.exists() else {}
    for shape, formats in SHAPES.items():
        if shape.name.startswith(prefix):
            known |= {entry["name"]: entry for entry in make_shape(shape, formats)}
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in known.values())
    catalogue.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
