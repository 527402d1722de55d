"""The sizes of the tiny models, and the tensors and keys that most architectures share.

Owns nothing that is drawn or run: architecture_oracle.py does that. Which models there are: make_architectures.py.
"""

from architecture_oracle import Tensor

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
