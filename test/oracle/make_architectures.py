"""Makes test/golden/architectures: three tiny models of every architecture, by transformers.

Usage: python make_architectures.py [NAME ...]     (all architectures, or those named)
"""

import json
import sys
from pathlib import Path

import torch
import transformers as hf

from architecture_oracle import Spec, Tensor, make

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "architectures"
VOCAB = 48
CONTEXT = 160
EPSILON = 1e-5

# hidden, heads, key heads, head size, layers, experts, experts per token, expert width, tied head
SHAPES = (
    (64, 4, 2, 16, 2, 5, 2, 32, False),
    (96, 3, 1, 32, 3, 8, 3, 64, False),
    (32, 2, 2, 16, 2, 6, 1, 96, True),
)


class Shape:
    """One of the sizes above, with what every architecture's configuration and keys share."""

    def __init__(self, index: int):
        self.index = index
        (
            self.hidden,
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.layers,
            self.experts,
            self.chosen,
            self.width,
            self.tied,
        ) = SHAPES[index]
        self.q, self.kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.theta = (10_000.0, 500_000.0, 50_000.0)[index]

    def config(self, **extra: object) -> dict:
        common = {
            "vocab_size": VOCAB,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": EPSILON,
            "tie_word_embeddings": self.tied,
            "pad_token_id": None,
            "bos_token_id": None,
            "eos_token_id": None,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.theta},
        }
        return common | extra

    def keys(self, **extra: object) -> dict:
        common = {
            "context_length": CONTEXT,
            "embedding_length": self.hidden,
            "block_count": self.layers,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
            "attention.key_length": self.head_dim,
            "attention.value_length": self.head_dim,
            "attention.layer_norm_rms_epsilon": EPSILON,
            "rope.freq_base": self.theta,
            "expert_count": self.experts,
            "expert_used_count": self.chosen,
            "expert_feed_forward_length": self.width,
        }
        return common | {key.replace("__", "."): value for key, value in extra.items()}

    def outside(self, norm: str = "model.norm") -> list[Tensor]:
        head = [] if self.tied else [Tensor("output.weight", (VOCAB, self.hidden), "lm_head.weight")]
        return [
            Tensor("token_embd.weight", (VOCAB, self.hidden), "model.embed_tokens.weight"),
            Tensor("output_norm.weight", (self.hidden,), f"{norm}.weight"),
            *head,
        ]

    def attention(self, i: int, permuted: bool = False, norms: tuple[str, str] = ("input_layernorm",) * 2) -> list[Tensor]:
        """q, k, v, o and the norm before them."""
        heads = (self.heads, self.kv_heads) if permuted else (0, 0)
        block, layer = f"blk.{i}", f"model.layers.{i}"
        return [
            Tensor(f"{block}.attn_norm.weight", (self.hidden,), f"{layer}.{norms[0]}.weight"),
            Tensor(f"{block}.attn_q.weight", (self.q, self.hidden), f"{layer}.self_attn.q_proj.weight", heads[0]),
            Tensor(f"{block}.attn_k.weight", (self.kv, self.hidden), f"{layer}.self_attn.k_proj.weight", heads[1]),
            Tensor(f"{block}.attn_v.weight", (self.kv, self.hidden), f"{layer}.self_attn.v_proj.weight"),
            Tensor(f"{block}.attn_output.weight", (self.hidden, self.q), f"{layer}.self_attn.o_proj.weight"),
        ]

    def qkv_biases(self, i: int) -> list[Tensor]:
        widths = {"q": self.q, "k": self.kv, "v": self.kv}
        return [
            Tensor(f"blk.{i}.attn_{x}.bias", (width,), f"model.layers.{i}.self_attn.{x}_proj.bias")
            for x, width in widths.items()
        ]

    def head_norms(self, i: int, q: str = "q_norm", k: str = "k_norm") -> list[Tensor]:
        return [
            Tensor(f"blk.{i}.attn_{x}_norm.weight", (self.head_dim,), f"model.layers.{i}.self_attn.{name}.weight")
            for x, name in (("q", q), ("k", k))
        ]

    def ffn_norm(self, i: int, name: str = "post_attention_layernorm", file: str = "ffn_norm") -> Tensor:
        return Tensor(f"blk.{i}.{file}.weight", (self.hidden,), f"model.layers.{i}.{name}.weight")

    def experts_of(self, i: int, mlp: str = "mlp", router: str = "gate") -> list[Tensor]:
        block, layer = f"blk.{i}", f"model.layers.{i}.{mlp}"
        matrix = (self.experts, self.width, self.hidden)
        return [
            Tensor(f"{block}.ffn_gate_inp.weight", (self.experts, self.hidden), f"{layer}.{router}.weight"),
            Tensor(f"{block}.ffn_gate_exps.weight", matrix, f"{layer}.experts.gate_up_proj", part=0, axis=1),
            Tensor(f"{block}.ffn_up_exps.weight", matrix, f"{layer}.experts.gate_up_proj", part=1, axis=1),
            Tensor(
                f"{block}.ffn_down_exps.weight",
                (self.experts, self.hidden, self.width),
                f"{layer}.experts.down_proj",
            ),
        ]

    def mlp(self, i: int, width: int, name: str, suffix: str = "") -> list[Tensor]:
        """A dense MLP, or a shared expert with `_shexp` as suffix."""
        shapes = {"gate": (width, self.hidden), "up": (width, self.hidden), "down": (self.hidden, width)}
        return [
            Tensor(f"blk.{i}.ffn_{x}{suffix}.weight", shape, f"model.layers.{i}.{name}.{x}_proj.weight")
            for x, shape in shapes.items()
        ]


def mixtral(shape: Shape) -> Spec:
    config = hf.MixtralConfig(
        **shape.config(head_dim=shape.head_dim, intermediate_size=shape.width),
        num_local_experts=shape.experts,
        num_experts_per_tok=shape.chosen,
        sliding_window=None,
    )
    tensors = shape.outside()
    for i in range(shape.layers):
        tensors += [*shape.attention(i, permuted=True), shape.ffn_norm(i), *shape.experts_of(i)]
    keys = shape.keys(feed_forward_length=shape.width, rope__dimension_count=shape.head_dim)
    del keys["expert_feed_forward_length"]
    return Spec("mixtral", "llama", config, keys, tensors)


def qwen2moe(shape: Shape) -> Spec:
    # A dense layer first, last, or none.
    dense = ([0], [2], [])[shape.index]
    shared = (64, 32, 32)[shape.index]
    config = hf.Qwen2MoeConfig(
        **shape.config(intermediate_size=128, moe_intermediate_size=shape.width),
        num_experts=shape.experts,
        num_experts_per_tok=shape.chosen,
        shared_expert_intermediate_size=shared,
        mlp_only_layers=dense,
        norm_topk_prob=False,
        use_sliding_window=False,
    )
    tensors = shape.outside()
    for i in range(shape.layers):
        tensors += [*shape.attention(i), *shape.qkv_biases(i), shape.ffn_norm(i)]
        if i in dense:
            tensors += shape.mlp(i, 128, "mlp")
            continue
        tensors += shape.experts_of(i) + shape.mlp(i, shared, "mlp.shared_expert", "_shexp")
        gate = f"model.layers.{i}.mlp.shared_expert_gate.weight"
        tensors.append(Tensor(f"blk.{i}.ffn_gate_inp_shexp.weight", (shape.hidden,), gate, target=(1, shape.hidden)))
    keys = shape.keys(expert_shared_feed_forward_length=shared, feed_forward_length=128)
    return Spec("qwen2moe", "qwen2moe", config, keys, tensors)


def qwen3moe(shape: Shape) -> Spec:
    normalize = shape.index != 1
    shape.head_dim = (32, 64, 16)[shape.index]
    shape.q, shape.kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    config = hf.Qwen3MoeConfig(
        **shape.config(head_dim=shape.head_dim, intermediate_size=64, moe_intermediate_size=shape.width),
        num_experts=shape.experts,
        num_experts_per_tok=shape.chosen,
        norm_topk_prob=normalize,
    )
    tensors = shape.outside()
    for i in range(shape.layers):
        tensors += [*shape.attention(i), *shape.head_norms(i), shape.ffn_norm(i), *shape.experts_of(i)]
    keys = shape.keys() | ({} if normalize else {"expert_weights_norm": False})
    return Spec("qwen3moe", "qwen3moe", config, keys, tensors)


def granitemoe(shape: Shape) -> Spec:
    shared = (0, 64, 32)[shape.index]
    scales = {
        "embedding_multiplier": (12.0, 1.0, 6.0)[shape.index],
        "residual_multiplier": (0.22, 1.0, 0.5)[shape.index],
        "logits_scaling": (6.0, 1.0, 3.0)[shape.index],
        "attention_multiplier": (0.0625, 0.25, 0.125)[shape.index],
    }
    common = shape.config(intermediate_size=shape.width)
    experts = {"num_local_experts": shape.experts, "num_experts_per_tok": shape.chosen}
    if shared:
        config = hf.GraniteMoeSharedConfig(**common, **experts, **scales, shared_intermediate_size=shared)
    else:
        config = hf.GraniteMoeConfig(**common, **experts, **scales)
    tensors = shape.outside()
    for i in range(shape.layers):
        tensors += [*shape.attention(i, permuted=True), shape.ffn_norm(i)]
        tensors += shape.experts_of(i, "block_sparse_moe", "router")
        if shared:
            block, layer = f"blk.{i}", f"model.layers.{i}.shared_mlp"
            tensors += [
                Tensor(f"{block}.ffn_gate_shexp.weight", (shared, shape.hidden), f"{layer}.input_linear.weight", part=0),
                Tensor(f"{block}.ffn_up_shexp.weight", (shared, shape.hidden), f"{layer}.input_linear.weight", part=1),
                Tensor(f"{block}.ffn_down_shexp.weight", (shape.hidden, shared), f"{layer}.output_linear.weight"),
            ]
    keys = shape.keys(
        feed_forward_length=shape.width,
        attention__scale=scales["attention_multiplier"],
        embedding_scale=scales["embedding_multiplier"],
        residual_scale=scales["residual_multiplier"],
        logit_scale=scales["logits_scaling"],
    )
    return Spec("granitemoe", "granitemoe", config, keys, tensors)


ARCHITECTURES = {maker.__name__: maker for maker in (mixtral, qwen2moe, qwen3moe, granitemoe)}


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name in sys.argv[1:] or ARCHITECTURES:
        models = []
        for index in range(len(SHAPES)):
            spec = ARCHITECTURES[name](Shape(index))
            spec.name = f"{name}-{index}"
            models.append(make(spec))
            print(spec.name, file=sys.stderr)
        lines = ",\n".join(json.dumps(model, separators=(",", ":")) for model in models)
        (GOLDEN / f"{name}.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    hf.logging.set_verbosity_error()
    main()
