"""Decoders of the research line in plain PyTorch, written from the papers' formulas.

Owns the mathematics, with each paper cited where its formula is. Parameters have the names that the authors' checkpoints have,
so that a state dict is a file's directory. Never optimised: every expert is computed for every token, and weighed.
"""

import math
from collections.abc import Iterable
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def rotate(x: Tensor, theta: float) -> Tensor:
    """Rotary embedding (arXiv 2104.09864) of [heads, tokens, dims]: dimension d turns with d + dims / 2."""
    tokens, dims = x.shape[-2:]
    frequencies = theta ** (-torch.arange(0, dims, 2, dtype=torch.float64) / dims)
    angles = torch.arange(tokens, dtype=torch.float64)[:, None] * frequencies
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal softmax attention of [heads, tokens, dims]; [tokens, heads * dims]."""
    tokens = q.shape[-2]
    scores = (q @ k.transpose(-1, -2) * scale).masked_fill(torch.ones(tokens, tokens).triu(1).bool(), -math.inf)
    return (scores.softmax(-1) @ v).transpose(0, 1).reshape(tokens, -1)


class Attention(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        hidden, self.heads = config["hidden_size"], config["num_attention_heads"]
        self.kv_heads = config["num_key_value_heads"]
        self.dim = config.get("head_dim") or hidden // self.heads
        self.theta = config["rope_theta"]
        self.scale = 1.0 if "moe_layer_interval" in config else self.dim**-0.5
        self.q_proj = linear(hidden, self.heads * self.dim)
        self.k_proj = linear(hidden, self.kv_heads * self.dim)
        self.v_proj = linear(hidden, self.kv_heads * self.dim)
        self.o_proj = linear(self.heads * self.dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (p(x).view(len(x), -1, self.dim).transpose(0, 1) for p in (self.q_proj, self.k_proj, self.v_proj))
        group = self.heads // self.kv_heads
        k, v = (rotate(k, self.theta).repeat_interleave(group, 0), v.repeat_interleave(group, 0))
        return self.o_proj(attend(rotate(q, self.theta), k, v, self.scale))


class LatentAttention(nn.Module):
    """DeepSeek-V2 (arXiv 2405.04434, equations 9 to 19), not absorbed. Norms of the latents have an eps of 1e-6."""

    def __init__(self, config: dict):
        super().__init__()
        hidden, self.heads = config["hidden_size"], config["num_attention_heads"]
        self.plain, self.turned, self.value = (config[f"{n}_head_dim"] for n in ("qk_nope", "qk_rope", "v"))
        self.rank, self.theta = config["kv_lora_rank"], config["rope_theta"]
        self.is_interleaved = "inner_iter" in config
        if config["q_lora_rank"] is None:
            self.q_proj = linear(hidden, self.heads * (self.plain + self.turned))
        else:
            self.q_a_proj = linear(hidden, config["q_lora_rank"])
            self.q_a_layernorm = RMSNorm(config["q_lora_rank"], 1e-6)
            self.q_b_proj = linear(config["q_lora_rank"], self.heads * (self.plain + self.turned))
        self.kv_a_proj_with_mqa = linear(hidden, self.rank + self.turned)
        self.kv_a_layernorm = RMSNorm(self.rank, 1e-6)
        self.kv_b_proj = linear(self.rank, self.heads * (self.plain + self.value))
        self.o_proj = linear(self.heads * self.value, hidden)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q_proj(x) if hasattr(self, "q_proj") else self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        q = q.view(len(x), self.heads, -1).transpose(0, 1)
        q_plain, q_turned = q.split([self.plain, self.turned], dim=-1)
        q_turned = self.part(q_turned)
        latent, k_turned = self.kv_a_proj_with_mqa(x).split([self.rank, self.turned], dim=-1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent)).view(len(x), self.heads, -1).transpose(0, 1)
        k_plain, v = kv.split([self.plain, self.value], dim=-1)
        q = torch.cat([q_plain, rotate(q_turned, self.theta)], dim=-1)
        k_turned = rotate(self.part(k_turned)[None], self.theta).expand(self.heads, -1, -1)
        return self.o_proj(attend(q, torch.cat([k_plain, k_turned], dim=-1), v, q.shape[-1] ** -0.5))


    def part(self, x: Tensor) -> Tensor:
        """DeepSeek's checkpoints turn dimension 2d with 2d + 1: first of the pairs, then second ones."""
        return torch.cat([x[..., ::2], x[..., 1::2]], dim=-1) if self.is_interleaved else x


class GatedMlp(nn.Module):
    """down(silu(gate x) * up x), its projections under the names that a family uses."""

    def __init__(self, hidden: int, width: int, names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")):
        super().__init__()
        self.names = names
        for name, (inputs, outputs) in zip(names, ((hidden, width), (hidden, width), (width, hidden))):
            setattr(self, name, linear(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        gate, up, down = (getattr(self, name) for name in self.names)
        return down(F.silu(gate(x)) * up(x))


MIXTRAL = ("w1", "w3", "w2")


def choose(scores: Tensor, k: int, renormalize: bool = False) -> Tensor:
    """The k largest of each row in their places, zeros elsewhere; renormalised: divided by their sum."""
    best, chosen = scores.topk(k, dim=-1)
    if renormalize:
        best = best / best.sum(-1, keepdim=True)
    return torch.zeros_like(scores).scatter(-1, chosen, best)


def mix(experts: Iterable[nn.Module], x: Tensor, weights: Tensor) -> Tensor:
    """Sum of the experts' outputs by weights [tokens, experts]."""
    return sum(weights[:, e, None] * expert(x) for e, expert in enumerate(experts))


class AdaMoe(nn.Module):
    """
    AdaMoE (arXiv 2406.13233, section 3.2): null experts, whose output is zero, join the top-k; weights are renormalised over the
    true experts among the chosen (equation 5). A second linear layer scores the null experts, as in the authors' Mixtral.
    """

    def __init__(self, config: dict, _layer: int):
        super().__init__()
        hidden, self.count = config["hidden_size"], config["num_local_experts"]
        self.k = config["num_experts_per_tok"]
        self.gate = linear(hidden, self.count)
        self.gate2 = linear(hidden, config["num_null_experts"])
        self.experts = nn.ModuleList(GatedMlp(hidden, config["intermediate_size"], MIXTRAL) for _ in range(self.count))

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.cat([self.gate(x), self.gate2(x)], dim=-1).softmax(-1)
        weights = choose(scores, self.k)[:, : self.count]
        total = weights.sum(-1, keepdim=True)
        return mix(self.experts, x, weights / torch.where(total == 0, 1, total))


class TopPMoe(nn.Module):
    """
    Dynamic routing (arXiv 2403.07652, equations 3 to 5): the fewest experts whose probabilities, largest first, pass p; each
    weighed by its probability.
    """

    def __init__(self, config: dict, _layer: int):
        super().__init__()
        hidden, self.p = config["hidden_size"], config["top_p_threshold"]
        self.router = linear(hidden, config["num_experts"])
        self.experts = nn.ModuleList(GatedMlp(hidden, config["intermediate_size"]) for _ in range(config["num_experts"]))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.router(x).softmax(-1)
        ordered, order = scores.sort(-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        kept = torch.where(before <= self.p, ordered, 0)
        return mix(self.experts, x, torch.zeros_like(scores).scatter(-1, order, kept))


class DenseMlp(nn.Module):
    """A layer of Dynamic_MoE without experts."""

    def __init__(self, config: dict):
        super().__init__()
        self.mlp = GatedMlp(config["hidden_size"], config["intermediate_size"])

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


def swiglu(x: Tensor) -> Tensor:
    """Half of the values, times the other half behind silu."""
    first, second = x.chunk(2, dim=-1)
    return first * F.silu(second)


class OpenMlp(nn.Module):
    """OpenMoE's: the gate is a swiglu of its own, which makes three products."""

    def __init__(self, hidden: int, width: int):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = linear(hidden, 2 * width), linear(hidden, width), linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(swiglu(self.gate_proj(x)) * self.up_proj(x))


class OpenExperts(nn.Module):
    """Stacks whose matrices are to be multiplied from the right."""

    def __init__(self, experts: int, hidden: int, width: int):
        super().__init__()
        self.wi_gate = nn.Parameter(torch.empty(experts, hidden, 2 * width))
        self.wi_up = nn.Parameter(torch.empty(experts, hidden, width))
        self.wo = nn.Parameter(torch.empty(experts, width, hidden))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        inner = swiglu(x @ self.wi_gate) * (x @ self.wi_up)  # [experts, tokens, width]
        return torch.einsum("eth,te->th", inner @ self.wo, weights)


class OpenMoe(nn.Module):
    """
    OpenMoE (arXiv 2402.01739, section 3.2, after ST-MoE, arXiv 2202.08906): softmax over all experts, the top two by their
    probabilities as they are. No expert has a capacity here: what a token gets is a function of the token.
    """

    def __init__(self, config: dict):
        super().__init__()
        hidden, experts = config["hidden_size"], config["num_experts"]
        self.k = config["router_topk"]
        self.gate_weight = nn.Parameter(torch.empty(experts, hidden))
        self.experts = OpenExperts(experts, hidden, config["intermediate_size"])

    def forward(self, x: Tensor) -> Tensor:
        return self.experts(x, choose((x @ self.gate_weight.T).softmax(-1), self.k))


class BlockFfn(nn.Module):
    """
    BlockFFN (arXiv 2507.08771, section 3.1): scores RMSNorm(ReLU(x W)), as many experts as are positive; an expert is
    down(silu(up x)), without a gate. The authors' code can also divide by the scores' sum, or leave them.
    """

    def __init__(self, config: dict, _layer: int):
        super().__init__()
        hidden, experts, width = config["hidden_size"], config["num_experts"], config["expert_size"]
        self.kind, self.scale = config["norm_after_router"], config["norm_scale"]
        self.router_proj = linear(hidden, experts)
        if self.kind == "rms":
            self.router_norm = RMSNorm(experts, config["rms_norm_eps"])
        self.up_proj = nn.Parameter(torch.empty(experts, width, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        scores = F.relu(self.router_proj(x))
        if self.kind == "rms":
            scores = self.router_norm(scores)
        elif self.kind == "sum":
            scores = scores / (scores.sum(-1, keepdim=True) * self.scale + 1e-5)
        inner = F.silu(torch.einsum("th,ewh->tew", x, self.up_proj)) * scores[:, :, None]
        return torch.einsum("tew,ehw->th", inner, self.down_proj)


class GruCell(nn.Module):
    """GRU (arXiv 1406.1078) in the form of torch.nn.GRUCell, its parts apart."""

    def __init__(self, width: int):
        super().__init__()
        for part in "rzn":
            for source in "ih":
                setattr(self, f"weight_{source}{part}", nn.Parameter(torch.empty(width, width)))
                setattr(self, f"bias_{source}{part}", nn.Parameter(torch.empty(width)))

    def apply_part(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, getattr(self, f"weight_{name}"), getattr(self, f"bias_{name}"))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        r = (self.apply_part("ir", x) + self.apply_part("hr", h)).sigmoid()
        z = (self.apply_part("iz", x) + self.apply_part("hz", h)).sigmoid()
        n = (self.apply_part("in", x) + r * self.apply_part("hn", h)).tanh()
        return (1 - z) * n + z * h


class RecurrentMoe(nn.Module):
    """
    RMoE (arXiv 2408.06793, section 3.1): a token's router state goes through the layers, h = GRU(W1 x, h of the layer before),
    zero before the first; experts are the top-k of softmax(W2 h), renormalised.
    """

    def __init__(self, config: dict, _layer: int):
        super().__init__()
        hidden, self.count = config["hidden_size"], config["num_local_experts"]
        width, self.k = config["moe_router_rnn_hidden_size"], config["num_experts_per_tok"]
        self.weight1 = nn.Parameter(torch.empty(width, hidden))
        self.weight2 = nn.Parameter(torch.empty(self.count, width))
        self.experts = nn.ModuleList(GatedMlp(hidden, config["intermediate_size"], MIXTRAL) for _ in range(self.count))

    def forward(self, x: Tensor, cell: GruCell, state: Tensor) -> tuple[Tensor, Tensor]:
        state = cell(F.linear(x, self.weight1), state)
        scores = F.linear(state, self.weight2).softmax(-1)
        return mix(self.experts, x, choose(scores, self.k, renormalize=True)), state


class ReusingMoe(nn.Module):
    """
    ReXMoE (arXiv 2510.17483, section 3): layers are in groups of r neighbours, and each layer's router scores the experts of all r,
    softmax, then top-k. The paper leaves open in which order a router has them (here: layer by layer), and whether
    weights are renormalised (here: by `norm_topk_prob`); the growing pool of its training is whole at inference.
    """

    def __init__(self, config: dict, _layer: int):
        super().__init__()
        hidden, width, own = config["hidden_size"], config["moe_intermediate_size"], config["num_experts"]
        self.k, self.renormalize = config["num_experts_per_tok"], config["norm_topk_prob"]
        self.gate = linear(hidden, own * config["expert_reuse_layers"])
        self.experts = nn.ModuleList(GatedMlp(hidden, width) for _ in range(own))
        if config["n_shared_experts"]:
            self.shared_experts = GatedMlp(hidden, width * config["n_shared_experts"])
        # Experts of the group; a list, since they are parameters of the layers that bring them.
        self.pool: list[nn.Module] = []

    def forward(self, x: Tensor) -> Tensor:
        routed = mix(self.pool, x, choose(self.gate(x).softmax(-1), self.k, self.renormalize))
        return routed + self.shared_experts(x) if hasattr(self, "shared_experts") else routed


class Scorer(nn.Module):
    def __init__(self, hidden: int, experts: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, hidden))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight).softmax(-1)


class ChainMoe(nn.Module):
    """
    Chain-of-Experts (arXiv 2506.18945, section 3.1): x(t) = sum of g(t) E(x(t - 1)) + x(t - 1), with a router per round or one for
    all. As in the authors' code the shared experts take part in every round.
    """

    def __init__(self, config: dict, _layer: int):
        super().__init__()
        hidden, width, experts = config["hidden_size"], config["moe_intermediate_size"], config["n_routed_experts"]
        self.rounds, self.k = config["inner_iter"], config["num_experts_per_tok"]
        self.renormalize = config["norm_topk_prob"] and self.k > 1
        self.scale = 1.0 if self.renormalize else config["routed_scaling_factor"]
        own = config["use_igate"]
        self.gate = nn.ModuleList(Scorer(hidden, experts) for _ in range(self.rounds)) if own else Scorer(hidden, experts)
        self.experts = nn.ModuleList(GatedMlp(hidden, width) for _ in range(experts))
        if config["n_shared_experts"]:
            self.shared_experts = GatedMlp(hidden, width * config["n_shared_experts"])

    def forward(self, x: Tensor) -> Tensor:
        for t in range(self.rounds):
            scores = (self.gate[t] if isinstance(self.gate, nn.ModuleList) else self.gate)(x)
            added = self.scale * mix(self.experts, x, choose(scores, self.k, self.renormalize))
            x = x + (added + self.shared_experts(x) if hasattr(self, "shared_experts") else added)
        return x


class Layer(nn.Module):
    """Pre-norm attention and MLP, each added to the residual stream."""

    norms = ("input_layernorm", "post_attention_layernorm")
    mlp_name = "mlp"

    def __init__(self, config: dict, index: int):
        super().__init__()
        for name in self.norms:
            setattr(self, name, RMSNorm(config["hidden_size"], config["rms_norm_eps"]))
        self.self_attn = LatentAttention(config) if "kv_lora_rank" in config else Attention(config)
        setattr(self, self.mlp_name, self.make_mlp(config, index))
        self.scale = config["scale_depth"] / math.sqrt(config["num_hidden_layers"]) if "scale_depth" in config else 1.0

    def make_mlp(self, config: dict, index: int) -> nn.Module:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        before, behind = (getattr(self, name) for name in self.norms)
        x = x + self.scale * self.self_attn(before(x))
        return x + self.scale * getattr(self, self.mlp_name)(behind(x))


class AdaMoeLayer(Layer):
    mlp_name = "block_sparse_moe"

    def make_mlp(self, config: dict, index: int) -> nn.Module:
        return AdaMoe(config, index)


class TopPLayer(Layer):
    norms = ("input_norm", "post_attention_norm")

    def make_mlp(self, config: dict, index: int) -> nn.Module:
        return TopPMoe(config, index) if index % config["expert_frequency"] == 0 else DenseMlp(config)


class OpenLayer(Layer):
    """
    Attention without a scale, as in umT5; every so many-th layer has experts, and a dense MLP of its own behind them, which the
    paper's figures leave out: from the authors' code.
    """

    def __init__(self, config: dict, index: int):
        super().__init__(config, index)
        if (index + 1) % config["moe_layer_interval"] == 0:
            self.pre_extra_mlp_layernorm = RMSNorm(config["hidden_size"], config["rms_norm_eps"])
            self.extra_mlp = OpenMlp(config["hidden_size"], config["intermediate_size"])

    def make_mlp(self, config: dict, index: int) -> nn.Module:
        has_experts = (index + 1) % config["moe_layer_interval"] == 0
        return OpenMoe(config) if has_experts else OpenMlp(config["hidden_size"], config["intermediate_size"])

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x + self.extra_mlp(self.pre_extra_mlp_layernorm(x)) if hasattr(self, "extra_mlp") else x


class ChainLayer(Layer):
    """What the rounds make of the normed stream takes its place: the residual is inside of them."""

    def make_mlp(self, config: dict, index: int) -> nn.Module:
        return ChainMoe(config, index)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return self.mlp(self.post_attention_layernorm(x))


class ReusingLayer(Layer):
    def make_mlp(self, config: dict, index: int) -> nn.Module:
        return ReusingMoe(config, index)


class BlockFfnLayer(Layer):
    def make_mlp(self, config: dict, index: int) -> nn.Module:
        return BlockFfn(config, index)


class RecurrentLayer(nn.Module):
    def __init__(self, config: dict, index: int):
        super().__init__()
        hidden, eps = config["hidden_size"], config["rms_norm_eps"]
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(hidden, eps), RMSNorm(hidden, eps)
        self.self_attn = Attention(config)
        self.has_experts = index >= config["num_hidden_layers"] - config["moe_num_layers"]
        if self.has_experts:
            self.block_sparse_moe = RecurrentMoe(config, index)
        else:
            self.mlp = GatedMlp(hidden, config["intermediate_size"])

    def forward(self, x: Tensor, cell: GruCell, state: Tensor) -> tuple[Tensor, Tensor]:
        x = x + self.self_attn(self.input_layernorm(x))
        normed = self.post_attention_layernorm(x)
        if not self.has_experts:
            return x + self.mlp(normed), state
        added, state = self.block_sparse_moe(normed, cell, state)
        return x + added, state


class Decoder(nn.Module):
    """Token ids to logits. `scale_emb` and `dim_model_base` are MiniCPM's (arXiv 2404.06395, appendix A)."""

    def __init__(self, config: dict, layer: type[Layer]):
        super().__init__()
        hidden, vocab = config["hidden_size"], config["vocab_size"]
        self.embedding_scale = config.get("scale_emb", 1)
        self.logit_divisor = hidden / config["dim_model_base"] if "dim_model_base" in config else 1
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(vocab, hidden)
        self.model.layers = nn.ModuleList(layer(config, i) for i in range(config["num_hidden_layers"]))
        self.model.norm = RMSNorm(hidden, config["rms_norm_eps"])
        if not config["tie_word_embeddings"]:
            self.lm_head = linear(hidden, vocab)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.model.embed_tokens

    def forward(self, ids: Tensor, use_cache: bool = False) -> SimpleNamespace:
        assert not use_cache and len(ids) == 1
        x = self.model.embed_tokens(ids[0]) * self.embedding_scale
        x = self.model.norm(self.run_layers(x)) / self.logit_divisor
        logits = self.lm_head(x) if hasattr(self, "lm_head") else x @ self.model.embed_tokens.weight.T
        return SimpleNamespace(logits=logits[None])

    def run_layers(self, x: Tensor) -> Tensor:
        for layer in self.model.layers:
            x = layer(x)
        return x


class RecurrentDecoder(Decoder):
    def __init__(self, config: dict, layer: type[nn.Module]):
        super().__init__(config, layer)
        self.model.rnn_router = GruCell(config["moe_router_rnn_hidden_size"])

    def run_layers(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), self.model.layers[-1].block_sparse_moe.weight1.shape[0])
        for layer in self.model.layers:
            x, state = layer(x, self.model.rnn_router, state)
        return x


class ReusingDecoder(Decoder):
    def __init__(self, config: dict, layer: type[Layer]):
        super().__init__(config, layer)
        reuse, layers = config["expert_reuse_layers"], list(self.model.layers)
        for first in range(0, len(layers), reuse):
            group = layers[first : first + reuse]
            for member in group:
                member.mlp.pool = [expert for other in group for expert in other.mlp.experts]
