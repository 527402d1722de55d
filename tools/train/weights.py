"""Hugging Face's tensor names <-> the stacked parameters of olmoe.py, both ways."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from olmoe import Config, Olmoe

# ours -> theirs, below model.layers.N.
LAYER_NAMES = {
    "attention_norm": "input_layernorm.weight",
    "q_norm": "self_attn.q_norm.weight",
    "k_norm": "self_attn.k_norm.weight",
    "out": "self_attn.o_proj.weight",
    "moe_norm": "post_attention_layernorm.weight",
    "router": "mlp.gate.weight",
}


def to_huggingface(model: Olmoe) -> dict[str, Tensor]:
    """State of the model under the names of `OlmoeForCausalLM`, f32, [out, in] matrices."""
    state = {
        "model.embed_tokens.weight": model.embedding,
        "model.norm.weight": model.final_norm,
        "lm_head.weight": model.head,
    }
    for index, layer in enumerate(model.layers):
        prefix = f"model.layers.{index}."
        for ours, theirs in LAYER_NAMES.items():
            state[prefix + theirs] = getattr(layer, ours)
        for name, matrix in zip("qkv", layer.qkv.chunk(3), strict=True):
            state[f"{prefix}self_attn.{name}_proj.weight"] = matrix
        for expert in range(model.config.num_experts):
            gate, up = layer.gate_up[expert].t().chunk(2)
            names = {"gate": gate, "up": up, "down": layer.down[expert].t()}
            for name, matrix in names.items():
                state[f"{prefix}mlp.experts.{expert}.{name}_proj.weight"] = matrix
    return {name: tensor.detach().float().contiguous() for name, tensor in state.items()}


@torch.no_grad()
def from_huggingface(model: Olmoe, state: dict[str, Tensor]) -> None:
    """Copies a state of `OlmoeForCausalLM` into the model; every tensor must be there."""
    model.embedding.copy_(state["model.embed_tokens.weight"])
    model.final_norm.copy_(state["model.norm.weight"])
    model.head.copy_(state["lm_head.weight"])
    for index, layer in enumerate(model.layers):
        prefix = f"model.layers.{index}."
        for ours, theirs in LAYER_NAMES.items():
            getattr(layer, ours).copy_(state[prefix + theirs])
        qkv = [state[f"{prefix}self_attn.{name}_proj.weight"] for name in "qkv"]
        layer.qkv.copy_(torch.cat(qkv))
        for expert in range(model.config.num_experts):
            names = [f"{prefix}mlp.experts.{expert}.{name}_proj.weight" for name in ("gate", "up")]
            layer.gate_up[expert].copy_(torch.cat([state[name] for name in names]).t())
            layer.down[expert].copy_(state[f"{prefix}mlp.experts.{expert}.down_proj.weight"].t())


def load_huggingface(directory: Path, compute_dtype: torch.dtype = torch.bfloat16) -> Olmoe:
    """A model from a folder with config.json and model.safetensors."""
    model = Olmoe(Config.load(directory / "config.json"), compute_dtype)
    from_huggingface(model, load_file(directory / "model.safetensors"))
    return model
