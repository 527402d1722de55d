"""OLMoE between GGUF and transformers: write a tiny model, load any OLMoE GGUF dequantised to float32.

Owns tensor and key names. Never decides shapes, seeds or prompts.
"""

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from transformers import OlmoeConfig, OlmoeForCausalLM

import byte_level

EPSILON = 1e-5  # llama.cpp's OLMoE converter knows no other


@dataclass(frozen=True)
class Shape:
    """What a tiny model looks like; its fields are OLMoE's hyperparameters."""

    name: str
    experts: int
    experts_per_token: int
    hidden: int
    expert_width: int
    heads: int
    kv_heads: int
    layers: int
    vocab: int
    context: int = 128
    rope_theta: float = 10000.0
    clip_qkv: float | None = None
    normalize_top_k: bool = False
    tied: bool = False
    chat: bool = False
    add_bos: bool = False

    @property
    def kv_width(self) -> int:
        """Columns of the key projection's output."""
        return self.hidden // self.heads * self.kv_heads


def tensor_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Every tensor of the file by its GGUF name, in row-major order ([out, in], experts first)."""
    hidden, width, experts = shape.hidden, shape.expert_width, shape.experts
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (shape.vocab, hidden), "output_norm.weight": (hidden,)}
    if not shape.tied:
        shapes["output.weight"] = (shape.vocab, hidden)
    for layer in range(shape.layers):
        block = {
            "attn_norm": (hidden,),
            "attn_q": (hidden, hidden),
            "attn_k": (shape.kv_width, hidden),
            "attn_v": (shape.kv_width, hidden),
            "attn_output": (hidden, hidden),
            "attn_q_norm": (hidden,),
            "attn_k_norm": (shape.kv_width,),
            "ffn_norm": (hidden,),
            "ffn_gate_inp": (experts, hidden),
            "ffn_gate_exps": (experts, width, hidden),
            "ffn_up_exps": (experts, width, hidden),
            "ffn_down_exps": (experts, hidden, width),
        }
        shapes |= {f"blk.{layer}.{name}.weight": dims for name, dims in block.items()}
    return shapes


def stays_f32(name: str) -> bool:
    """Norms and the router are kept in float32, as llama.cpp's quantiser does."""
    return "norm" in name or "ffn_gate_inp" in name


def write_keys(writer: gguf.GGUFWriter, shape: Shape, title: str) -> None:
    """Hyperparameters and tokenizer of a tiny model."""
    writer.add_name(title)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.expert_width)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(shape.experts_per_token)
    if shape.clip_qkv is not None:
        writer.add_clamp_kqv(shape.clip_qkv)
    if shape.normalize_top_k:
        writer.add_expert_weights_norm(True)
    tokens, merges = byte_level.vocabulary(shape.vocab)
    special = len(byte_level.SPECIAL_TOKENS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [byte_level.CONTROL_TYPE if i < special else byte_level.NORMAL_TYPE for i in range(shape.vocab)]
    )
    writer.add_token_merges(merges)
    writer.add_bos_token_id(byte_level.BOS_ID)
    writer.add_eos_token_id(byte_level.END_ID)
    writer.add_pad_token_id(byte_level.PAD_ID)
    writer.add_add_bos_token(shape.add_bos)
    if shape.chat:
        writer.add_chat_template(byte_level.CHAT_TEMPLATE)


def write_gguf(path: Path, shape: Shape, title: str, weights: dict[str, np.ndarray], types: dict[str, Type]) -> None:
    """Writes a GGUF v3 file with each tensor quantised to its type."""
    writer = gguf.GGUFWriter(path, "olmoe")
    write_keys(writer, shape, title)
    for name, values in weights.items():
        writer.add_tensor(name, gguf.quants.quantize(values, types[name]), raw_dtype=types[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """A GGUF's keys, and its tensors dequantised to float32 in row-major shape."""
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        tensors[tensor.name] = torch.from_numpy(values.reshape(tuple(reversed(tensor.shape.tolist()))).copy())
    return fields, tensors


def config_from_gguf(fields: dict, tensors: dict[str, torch.Tensor]) -> OlmoeConfig:
    """The transformers configuration that a GGUF's keys describe."""

    def key(name: str, default: object = None) -> object:
        return fields.get(f"olmoe.{name}", default)

    return OlmoeConfig(
        vocab_size=tensors["token_embd.weight"].shape[0],
        hidden_size=key("embedding_length"),
        intermediate_size=key("feed_forward_length"),
        num_hidden_layers=key("block_count"),
        num_attention_heads=key("attention.head_count"),
        num_key_value_heads=key("attention.head_count_kv"),
        max_position_embeddings=key("context_length"),
        rms_norm_eps=key("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": key("rope.freq_base")},
        clip_qkv=key("attention.clamp_kqv"),
        num_experts=key("expert_count"),
        num_experts_per_tok=key("expert_used_count"),
        norm_topk_prob=key("expert_weights_norm", False),
        tie_word_embeddings="output.weight" not in tensors,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )


def state_dict(tensors: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """GGUF tensors under transformers' names, gate and up fused."""
    embedding = tensors["token_embd.weight"]
    state = {
        "model.embed_tokens.weight": embedding,
        "model.norm.weight": tensors["output_norm.weight"],
        "lm_head.weight": tensors.get("output.weight", embedding),
    }
    plain = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate": "ffn_gate_inp",
        **{f"self_attn.{name}_proj": f"attn_{name}" for name in "qkv"},
        **{f"self_attn.{name}_norm": f"attn_{name}_norm" for name in "qk"},
        "self_attn.o_proj": "attn_output",
    }
    for layer in range(layers):
        source, target = f"blk.{layer}", f"model.layers.{layer}"
        state |= {f"{target}.{name}.weight": tensors[f"{source}.{stem}.weight"] for name, stem in plain.items()}
        gate_up = [tensors[f"{source}.ffn_{part}_exps.weight"] for part in ("gate", "up")]
        state[f"{target}.mlp.experts.gate_up_proj"] = torch.cat(gate_up, dim=1)
        state[f"{target}.mlp.experts.down_proj"] = tensors[f"{source}.ffn_down_exps.weight"]
    return state


class Oracle:
    """A GGUF run by transformers in float32 with plain (eager) attention and experts."""

    def __init__(self, path: Path):
        self.fields, tensors = read_gguf(path)
        self.config = config_from_gguf(self.fields, tensors)
        self.config._attn_implementation = "eager"
        self.config._experts_implementation = "eager"
        self.model = OlmoeForCausalLM(self.config).eval()
        self.model.load_state_dict(state_dict(tensors, self.config.num_hidden_layers), strict=True)
        self.routers: list[tuple[torch.Tensor, ...]] = []
        for layer in self.model.model.layers:
            layer.mlp.gate.register_forward_hook(lambda _module, _inputs, output: self.routers.append(output))

    @torch.no_grad()
    def run(self, token_ids: list[int]) -> torch.Tensor:
        """Logits [tokens, vocab] of a whole sequence; `routers` then has (logits, weights, ids) per layer."""
        self.routers.clear()
        return self.model(torch.tensor([token_ids]), use_cache=False).logits[0].float()

    def router_margins(self) -> torch.Tensor:
        """Per position of the latest run, the smallest gap over the layers between the last chosen and the first
        refused expert's probability; 1 where every expert is chosen."""
        chosen = self.config.num_experts_per_tok
        ordered = torch.stack(
            [logits.float().softmax(-1).sort(-1, descending=True).values for logits, _, _ in self.routers]
        )
        if chosen == self.config.num_experts:
            return torch.ones(ordered.shape[1])
        return (ordered[..., chosen - 1] - ordered[..., chosen]).amin(0)


def top1_margin(logits: torch.Tensor) -> float:
    """Smallest gap between the two largest logits over all positions."""
    two = logits.topk(2, dim=-1).values
    return (two[..., 0] - two[..., 1]).min().item()
