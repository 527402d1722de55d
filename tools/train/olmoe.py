"""OLMoE (Muennighoff et al., arXiv 2409.02060) for training: weights, forward pass, routing losses.

Same function as transformers' `OlmoeForCausalLM`; written anew because two CPU cores need another
form: stacked experts, sorted tokens, attention as plain batched products. f32 master weights are
cast to `compute_dtype` on use; sums, norms, softmax and the residual stream are f32.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Rows per expert are padded to a multiple of this: fewer distinct matrix shapes, so oneDNN's
# cache of generated kernels hits.
ROW_MULTIPLE = 128
# Queries per block of causal attention; a block only reads the keys up to its own end.
QUERY_BLOCK = 128


@dataclass(frozen=True)
class Config:
    """The fields of Hugging Face's config.json that shape the model."""

    hidden_size: int = 256
    intermediate_size: int = 128
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    num_experts: int = 32
    num_experts_per_tok: int = 4
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    vocab_size: int = 4096
    max_position_embeddings: int = 1024

    @staticmethod
    def load(path: Path) -> "Config":
        stored = json.loads(path.read_text())
        return Config(**{name: stored[name] for name in Config.__dataclass_fields__})

    def to_huggingface(self) -> dict:
        """config.json; the special ids are those of corpus.py."""
        return {
            "architectures": ["OlmoeForCausalLM"],
            "model_type": "olmoe",
            **asdict(self),
            "num_key_value_heads": self.num_attention_heads,
            "norm_topk_prob": False,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "attention_bias": False,
            "clip_qkv": None,
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 5,
            "torch_dtype": "bfloat16",
        }


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x [..., width] any float -> f32."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE, halves rotated: x [batch, heads, time, head], cos and sin [time, head]."""
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat((-right, left), -1) * sin


class CausalAttention(torch.autograd.Function):
    """Attention as plain products by blocks of queries, each over the keys up to its own end.

    On CPU the backward pass of `scaled_dot_product_attention` takes twice as long at these sizes,
    and a compiled softmax over growing key counts four times as long as PyTorch's own.
    """

    @staticmethod
    def forward(ctx, q, k, v):
        """q (scaled), k, v [batch * heads, time, head] -> the same shape."""
        time = q.shape[1]
        out = torch.empty_like(v)
        future = torch.full((QUERY_BLOCK, QUERY_BLOCK), -math.inf, dtype=q.dtype, device=q.device)
        future.triu_(1)
        shares = []
        for start in range(0, time, QUERY_BLOCK):
            end = min(start + QUERY_BLOCK, time)
            scores = torch.bmm(q[:, start:end], k[:, :end].transpose(1, 2))
            scores[:, :, start:] += future[: end - start, : end - start]
            shares.append(torch.softmax(scores, -1))
            out[:, start:end] = torch.bmm(shares[-1], v[:, :end])
        ctx.save_for_backward(q, k, v, *shares)
        return out

    @staticmethod
    def backward(ctx, grad):
        q, k, v, *shares = ctx.saved_tensors
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for index, share in enumerate(shares):
            start, end = index * QUERY_BLOCK, share.shape[2]
            grad_out = grad[:, start:end]
            grad_v[:, :end].baddbmm_(share.transpose(1, 2), grad_out)
            grad_share = torch.bmm(grad_out, v[:, :end].transpose(1, 2))
            grad_scores = torch._softmax_backward_data(grad_share, share, -1, share.dtype)
            grad_q[:, start:end] = torch.bmm(grad_scores, k[:, :end])
            grad_k[:, :end].baddbmm_(grad_scores.transpose(1, 2), q[:, start:end])
        return grad_q, grad_k, grad_v


def before_attention(
    x: Tensor,
    norm: Tensor,
    qkv: Tensor,
    q_norm: Tensor,
    k_norm: Tensor,
    cos: Tensor,
    sin: Tensor,
    heads: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """x [batch, time, width] f32 -> q, k, v [batch * heads, time, head].

    Positions are applied, and q is scaled by 1 / sqrt(head).
    """
    batch, time, width = x.shape
    q, k, v = F.linear(rms_norm(x, norm, eps).to(qkv.dtype), qkv).chunk(3, -1)

    def split(t: Tensor) -> Tensor:
        return t.view(batch, time, heads, width // heads).transpose(1, 2)

    q = rotate(split(rms_norm(q, q_norm, eps)), cos, sin) * (width // heads) ** -0.5
    k = rotate(split(rms_norm(k, k_norm, eps)), cos, sin)
    return tuple(t.to(qkv.dtype).flatten(0, 1).contiguous() for t in (q, k, split(v)))


def after_attention(
    x: Tensor, mixed: Tensor, out: Tensor, moe_norm: Tensor, router: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """x [batch, time, width] f32, mixed [batch * heads, time, head]

    -> x + attention f32, expert input [batch * time, width], router logits f32.
    """
    batch, time, width = x.shape
    mixed = mixed.view(batch, -1, time, mixed.shape[-1]).transpose(1, 2)
    x = x + F.linear(mixed.reshape(batch, time, width), out)
    normed = rms_norm(x, moe_norm, eps)
    return x, normed.to(out.dtype).flatten(0, 1), F.linear(normed, router).flatten(0, 1)


def weighted_swiglu(gate_up: Tensor, weight: Tensor) -> Tensor:
    """gate_up [rows, 2 * inner], weight [rows] f32 -> [rows, inner] scaled by the router weight."""
    gate, up = gate_up.float().chunk(2, -1)
    return (F.silu(gate) * up * weight[:, None]).to(gate_up.dtype)


def weighted_swiglu_backward(
    gate_up: Tensor, weight: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of `weighted_swiglu` for gate_up and weight."""
    gate, up = gate_up.float().chunk(2, -1)
    grad = grad.float()
    sigmoid = torch.sigmoid(gate)
    silu = gate * sigmoid
    grad_weight = (grad * silu * up).sum(-1)
    grad = grad * weight[:, None]
    grad_gate = grad * up * sigmoid * (1 + gate * (1 - sigmoid))
    return torch.cat((grad_gate, grad * silu), -1).to(gate_up.dtype), grad_weight


def sum_rows(rows: Tensor, row_of_slot: Tensor) -> Tensor:
    """rows [rows, width], row_of_slot [tokens, k] -> [tokens, width] f32, in router order."""
    total = rows[row_of_slot[:, 0]].float()
    for rank in range(1, row_of_slot.shape[1]):
        total = total + rows[row_of_slot[:, rank]].float()
    return total


def plan_rows(experts: Tensor, expert_count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sorts (token, rank) slots by expert, each expert's run padded to ROW_MULTIPLE rows.

    experts [tokens, k] -> row_of_slot [tokens, k], token_of_row [rows] (padding: token 0),
    ends [expert_count] int32 (where each expert's rows end).
    """
    flat = experts.flatten()
    counts = torch.bincount(flat, minlength=expert_count)
    padded = (counts + ROW_MULTIPLE - 1) // ROW_MULTIPLE * ROW_MULTIPLE
    ends = padded.cumsum(0)
    order = flat.argsort(stable=True)
    shift = (ends - padded) - (counts.cumsum(0) - counts)  # first padded row - first sorted slot
    row_of_slot = torch.empty_like(flat)
    row_of_slot[order] = torch.arange(flat.numel(), device=flat.device) + shift[flat[order]]
    token_of_row = torch.zeros(int(ends[-1]), dtype=torch.int64, device=flat.device)
    token_of_row[row_of_slot] = torch.arange(flat.numel(), device=flat.device) // experts.shape[1]
    return row_of_slot.view_as(experts), token_of_row, ends.int()


class Experts(torch.autograd.Function):
    """All experts of a layer on their tokens, without a loop over experts.

    Written by hand because the backward pass of a gather is a scatter, while the row plan already
    knows the inverse gather.
    """

    @staticmethod
    def forward(ctx, x, weights, experts, gate_up, down):
        """x [tokens, width], weights and experts [tokens, k], gate_up [experts, width, 2 * inner],
        down [experts, inner, width] -> [tokens, width] f32."""
        row_of_slot, token_of_row, ends = plan_rows(experts, gate_up.shape[0])
        row_weight = torch.zeros(token_of_row.numel(), device=x.device)  # padding rows weigh 0
        row_weight[row_of_slot] = weights
        hidden = torch._grouped_mm(x[token_of_row], gate_up, offs=ends)
        inner = kernels.swiglu(hidden, row_weight)
        rows = torch._grouped_mm(inner, down, offs=ends)
        ctx.save_for_backward(
            x, gate_up, down, row_of_slot, token_of_row, ends, row_weight, hidden, inner
        )
        return kernels.sum_rows(rows, row_of_slot)

    @staticmethod
    def backward(ctx, grad):
        x, gate_up, down, row_of_slot, token_of_row, ends, row_weight, hidden, inner = (
            ctx.saved_tensors
        )
        grad_rows = grad.to(x.dtype)[token_of_row]
        grad_down = torch._grouped_mm(inner.t(), grad_rows, offs=ends)
        grad_inner = torch._grouped_mm(grad_rows, down.transpose(1, 2), offs=ends)
        grad_hidden, grad_weight = kernels.swiglu_backward(hidden, row_weight, grad_inner)
        grad_gate_up = torch._grouped_mm(x[token_of_row].t(), grad_hidden, offs=ends)
        grad_x = torch._grouped_mm(grad_hidden, gate_up.transpose(1, 2), offs=ends)
        grad_x = kernels.sum_rows(grad_x, row_of_slot).to(x.dtype)
        return grad_x, grad_weight[row_of_slot], None, grad_gate_up, grad_down


def routing_half(
    logits: Tensor, k: int, valid: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """logits [tokens, experts] f32, valid [tokens] f32 (0 for padding).

    -> weights [tokens, k] (softmax over all experts, not renormalised), experts [tokens, k],
    load-balance loss (Fedus et al., arXiv 2101.03961: experts * sum of share * mean probability),
    router z loss (Zoph et al., arXiv 2202.08906), load [experts] (shares of the k * tokens slots).
    """
    chances = torch.softmax(logits, -1)
    weights, experts = chances.topk(k, -1)
    count = valid.sum()
    chosen = torch.zeros_like(logits).scatter_(1, experts, 1.0)
    load = (chosen * valid[:, None]).sum(0) / (count * k)
    mean_chance = (chances * valid[:, None]).sum(0) / count
    balance = logits.shape[1] * (load * mean_chance).sum()
    z = (torch.logsumexp(logits, -1).square() * valid).sum() / count
    return weights, experts, balance, z, load


def cross_entropy(x: Tensor, norm: Tensor, head: Tensor, targets: Tensor, eps: float) -> Tensor:
    """x [tokens, width] f32, targets [tokens] -> nats per token [tokens] f32."""
    logits = F.linear(rms_norm(x, norm, eps).to(head.dtype), head).float()
    return F.cross_entropy(logits, targets, reduction="none")


class Kernels:
    """The fusable functions above, compiled when asked for (about twice as fast on CPU)."""

    def __init__(self, compiled: bool):
        def build(function, **options):
            return torch.compile(function, **options) if compiled else function

        self.before_attention = build(before_attention, dynamic=False)
        self.after_attention = build(after_attention, dynamic=False)
        self.routing = build(routing_half, dynamic=False)
        self.cross_entropy = build(cross_entropy, dynamic=False)
        self.swiglu = build(weighted_swiglu, dynamic=True)
        self.swiglu_backward = build(weighted_swiglu_backward, dynamic=True)
        self.sum_rows = build(sum_rows, dynamic=True)


kernels = Kernels(compiled=False)


def compile_kernels() -> None:
    """Makes every model of this process use compiled kernels."""
    global kernels
    kernels = Kernels(compiled=True)


class Layer(nn.Module):
    """Weights of one layer, f32."""

    def __init__(self, config: Config):
        super().__init__()
        width, inner, experts = config.hidden_size, config.intermediate_size, config.num_experts
        self.attention_norm = nn.Parameter(torch.ones(width))
        self.qkv = nn.Parameter(torch.randn(3 * width, width) * 0.02)
        self.q_norm = nn.Parameter(torch.ones(width))
        self.k_norm = nn.Parameter(torch.ones(width))
        self.out = nn.Parameter(torch.randn(width, width) * 0.02)
        self.moe_norm = nn.Parameter(torch.ones(width))
        self.router = nn.Parameter(torch.randn(experts, width) * 0.02)
        self.gate_up = nn.Parameter(torch.randn(experts, width, 2 * inner) * 0.02)
        self.down = nn.Parameter(torch.randn(experts, inner, width) * 0.02)
        depth_scale = (2 * config.num_hidden_layers) ** -0.5  # GPT-2's residual initialisation
        self.out.data *= depth_scale
        self.down.data *= depth_scale


@dataclass
class Losses:
    """What one forward pass returns."""

    token: Tensor  # [batch, time] f32, nats per target
    balance: Tensor  # mean over layers, 1 when even
    z: Tensor  # mean over layers
    load: Tensor  # [layers, experts]: share of the slots


class Olmoe(nn.Module):
    """Decoder with an untied head."""

    def __init__(self, config: Config, compute_dtype: torch.dtype = torch.bfloat16):
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        width, vocab = config.hidden_size, config.vocab_size
        self.embedding = nn.Parameter(torch.randn(vocab, width) * 0.02)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.final_norm = nn.Parameter(torch.ones(width))
        self.head = nn.Parameter(torch.randn(vocab, width) * 0.02)
        self.tables: dict[int, tuple[Tensor, Tensor]] = {}

    def rope_tables(self, time: int) -> tuple[Tensor, Tensor]:
        """cos and sin [time, head width] f32."""
        if time not in self.tables:
            head = self.config.hidden_size // self.config.num_attention_heads
            rates = self.config.rope_theta ** (-torch.arange(0, head, 2).float() / head)
            angles = torch.outer(torch.arange(time).float(), rates).repeat(1, 2)
            angles = angles.to(self.head.device)
            self.tables[time] = (angles.cos(), angles.sin())
        return self.tables[time]

    def forward(
        self, inputs: Tensor, targets: Tensor, valid: Tensor, temperature: float = 1.0
    ) -> Losses:
        """inputs, targets [batch, time] int64; valid [batch, time] f32, 0 where padding.

        The targets' losses are those of the odds at `temperature`.
        """
        config, dtype = self.config, self.compute_dtype
        cos, sin = self.rope_tables(inputs.shape[1])
        valid = valid.flatten()
        x = self.embedding[inputs]
        balance, z, loads = 0.0, 0.0, []
        for layer in self.layers:
            q, k, v = kernels.before_attention(
                x,
                layer.attention_norm,
                layer.qkv.to(dtype),
                layer.q_norm,
                layer.k_norm,
                cos,
                sin,
                config.num_attention_heads,
                config.rms_norm_eps,
            )
            x, normed, logits = kernels.after_attention(
                x,
                CausalAttention.apply(q, k, v),
                layer.out.to(dtype),
                layer.moe_norm,
                layer.router,
                config.rms_norm_eps,
            )
            weights, experts, layer_balance, layer_z, load = kernels.routing(
                logits, config.num_experts_per_tok, valid
            )
            mixed = Experts.apply(
                normed, weights, experts, layer.gate_up.to(dtype), layer.down.to(dtype)
            )
            x = x + mixed.view_as(x)
            balance, z = balance + layer_balance, z + layer_z
            loads.append(load.detach())
        token = kernels.cross_entropy(
            x.flatten(0, 1),
            self.final_norm / temperature,
            self.head.to(dtype),
            targets.flatten(),
            config.rms_norm_eps,
        )
        depth = config.num_hidden_layers
        return Losses(token.view_as(targets), balance / depth, z / depth, torch.stack(loads))
