"""Decoding of many prompts at once with the training model: greedy, or at a temperature.

Every expert sees every row, as one product with all of them side by side, which at a hundred rows
costs less than gathering: 20 replies of 160 tokens take 20 s where transformers takes minutes. Rows
that have ended are left out once they are half of all.
"""

import torch
import torch.nn.functional as F

from corpus import END, PAD
from olmoe import Olmoe, rms_norm, rotate


def keep_top(chances: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero outside the smallest set of tokens with at least `top_p` in all, as the runtime's."""
    if top_p >= 1:
        return chances
    ordered, ids = chances.sort(descending=True)
    ordered[ordered.cumsum(0) - ordered >= top_p] = 0
    return torch.zeros_like(chances).scatter_(0, ids, ordered)


@torch.no_grad()
def decode(
    model: Olmoe,
    prompts: list[list[int]],
    max_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    top_p: float = 1.0,
) -> list[list[int]]:
    """Replies without prompt; each ends with END unless `max_tokens` or the context cut it off.

    Temperature 0 is greedy. Prompt N draws with seed `seed` + N, so that its reply depends on no
    other prompt.
    """
    config, dtype = model.config, model.compute_dtype
    rows, heads, width = len(prompts), config.num_attention_heads, config.hidden_size
    longest = max(len(prompt) for prompt in prompts)
    steps = min(longest + max_tokens, config.max_position_embeddings)
    device = model.head.device
    tokens = torch.full((rows, steps), PAD, device=device)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = torch.tensor(prompt)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    draws = [torch.Generator().manual_seed(seed + row) for row in range(rows)]
    ended = torch.zeros(rows, dtype=torch.bool, device=device)
    live = torch.arange(rows, device=device)  # rows that the cache holds
    shape = (config.num_hidden_layers, 2, rows, heads, steps, width // heads)
    cache = torch.zeros(shape, dtype=dtype, device=device)
    cos, sin = model.rope_tables(config.max_position_embeddings)
    experts_wide = config.num_experts, 2 * config.intermediate_size
    matrices = [
        [
            layer.qkv.to(dtype),
            layer.out.to(dtype),
            layer.gate_up.to(dtype).transpose(0, 1).reshape(width, -1),
            layer.down.to(dtype).reshape(-1, width),
        ]
        for layer in model.layers
    ]
    head = model.head.to(dtype)
    for at in range(steps - 1):
        x = model.embedding[tokens[live, at]]
        for index, layer in enumerate(model.layers):
            qkv, out, gate_up, down = matrices[index]
            normed = rms_norm(x, layer.attention_norm, config.rms_norm_eps).to(dtype)
            q, k, v = F.linear(normed, qkv).chunk(3, -1)
            q = rms_norm(q, layer.q_norm, config.rms_norm_eps).view(rows, heads, 1, -1)
            k = rms_norm(k, layer.k_norm, config.rms_norm_eps).view(rows, heads, 1, -1)
            cache[index, 0, :, :, at] = rotate(k, cos[at], sin[at])[:, :, 0].to(dtype)
            cache[index, 1, :, :, at] = v.view(rows, heads, -1)
            keys, values = cache[index, :, :, :, : at + 1]
            scores = rotate(q, cos[at], sin[at]).to(dtype) @ keys.transpose(2, 3)
            shares = torch.softmax(scores.float() * (width // heads) ** -0.5, -1).to(dtype)
            x = x + F.linear((shares @ values).reshape(rows, width), out)
            normed = rms_norm(x, layer.moe_norm, config.rms_norm_eps)
            chances = torch.softmax(F.linear(normed, layer.router), -1)
            weights, experts = chances.topk(config.num_experts_per_tok, -1)
            gates = torch.zeros_like(chances).scatter_(1, experts, weights)
            gate, up = (normed.to(dtype) @ gate_up).view(rows, *experts_wide).chunk(2, -1)
            inner = F.silu(gate.float()) * up * gates[:, :, None]
            x = x + inner.to(dtype).view(rows, -1) @ down
        if at + 1 < int(lengths.min()):
            continue
        logits = F.linear(rms_norm(x, model.final_norm, config.rms_norm_eps).to(dtype), head)
        writing = (lengths <= at + 1) & (lengths + max_tokens > at + 1) & ~ended
        odds = torch.softmax(logits.float() / temperature, -1).cpu() if temperature else None
        for place in writing[live].nonzero()[:, 0].tolist():
            row = int(live[place])
            if odds is not None:
                chances = keep_top(odds[place], top_p)
                tokens[row, at + 1] = torch.multinomial(chances, 1, generator=draws[row])
            else:
                tokens[row, at + 1] = logits[place].argmax()
        ended |= writing & (tokens[:, at + 1] == END)
        going = ~(ended | (lengths + max_tokens <= at + 2))[live]
        if not bool(going.any()):
            break
        if 2 * int(going.sum()) <= rows:
            live, cache = live[going], cache[:, :, going]
            rows = len(live)
    ends = (lengths + max_tokens).clamp(max=steps).tolist()
    replies = []
    for row, prompt in enumerate(prompts):
        reply = tokens[row, len(prompt) : ends[row]].tolist()
        replies.append(reply[: reply.index(END) + 1] if END in reply else reply)
    return replies
