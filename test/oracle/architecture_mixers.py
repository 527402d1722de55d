"""Tiny models whose layers mix positions otherwise than by plain attention: latents (DeepSeek) and short convolutions (LFM2)."""

import transformers as hf

from architecture_oracle import Spec, Tensor
from architecture_shape import Shape

DENSE_WIDTH = 64


def deepseek2(shape: Shape) -> Spec:
    """V2 without and with a latent of queries and groups, then V3. The first keeps keys and values in one tensor, as older files."""
    is_v3 = shape.index == 2
    plain, rope, value, rank = ((32, 16, 16, 64), (64, 32, 32, 96), (32, 8, 48, 32))[shape.index]
    query_rank = (None, 64, 32)[shape.index]
    groups = ((1, 1), (4, 2), (3, 2))[shape.index]
    mscale = (0.707, None, 1.0)[shape.index]
    scale = (1.0, 16.0, 2.5)[shape.index]
    dense = (1, 0, 1)[shape.index]
    parameters: dict = {"rope_type": "default", "rope_theta": shape.theta}
    if mscale is not None:
        parameters |= {
            "rope_type": "yarn",
            "factor": 4.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": mscale,
            "mscale_all_dim": mscale,
            "original_max_position_embeddings": 40,
        }
    common = shape.config(
        num_key_value_heads=shape.heads,
        rope_parameters=parameters,
        intermediate_size=DENSE_WIDTH,
        moe_intermediate_size=shape.width,
        n_routed_experts=shape.experts,
        num_experts_per_tok=shape.chosen,
        n_shared_experts=(2, 1, 1)[shape.index],
        routed_scaling_factor=scale,
        n_group=groups[0],
        topk_group=groups[1],
        first_k_dense_replace=dense,
        kv_lora_rank=rank,
        q_lora_rank=query_rank,
        qk_nope_head_dim=plain,
        qk_rope_head_dim=rope,
        v_head_dim=value,
    )
    if is_v3:
        config = hf.DeepseekV3Config(**common, norm_topk_prob=True)
    else:
        method = "greedy" if groups[0] == 1 else "group_limited_greedy"
        config = hf.DeepseekV2Config(**common, norm_topk_prob=False, topk_method=method)
    tensors = shape.outside()
    for i in range(shape.layers):
        block, attention = f"blk.{i}", f"model.layers.{i}.self_attn"
        queries = shape.heads * (plain + rope)
        tensors.append(Tensor(f"{block}.attn_norm.weight", (shape.hidden,), f"model.layers.{i}.input_layernorm.weight"))
        if query_rank is None:
            tensors.append(Tensor(f"{block}.attn_q.weight", (queries, shape.hidden), f"{attention}.q_proj.weight"))
        else:
            tensors += [
                Tensor(f"{block}.attn_q_a.weight", (query_rank, shape.hidden), f"{attention}.q_a_proj.weight"),
                Tensor(f"{block}.attn_q_a_norm.weight", (query_rank,), f"{attention}.q_a_layernorm.weight"),
                Tensor(f"{block}.attn_q_b.weight", (queries, query_rank), f"{attention}.q_b_proj.weight"),
            ]
        latent = f"{attention}.kv_a_proj_with_mqa.weight"
        joined, parameter = (shape.heads * (plain + value), rank), f"{attention}.kv_b_proj.weight"
        tensors += [
            Tensor(f"{block}.attn_kv_a_mqa.weight", (rank + rope, shape.hidden), latent),
            Tensor(f"{block}.attn_kv_a_norm.weight", (rank,), f"{attention}.kv_a_layernorm.weight"),
        ]
        if shape.index == 0:
            tensors.append(Tensor(f"{block}.attn_kv_b.weight", joined, parameter))
        else:
            keys = (shape.heads, rank, plain)
            tensors += [
                Tensor(f"{block}.attn_k_b.weight", keys, parameter, axis=1, transposed=True, target=joined),
                Tensor(f"{block}.attn_v_b.weight", (shape.heads, value, rank), parameter, part=1, axis=1),
            ]
        output = (shape.hidden, shape.heads * value)
        tensors += [Tensor(f"{block}.attn_output.weight", output, f"{attention}.o_proj.weight"), shape.ffn_norm(i)]
        if i < dense:
            tensors += shape.mlp(i, DENSE_WIDTH, "mlp")
            continue
        tensors += shape.experts_of(i)
        tensors += shape.mlp(i, config.n_shared_experts * shape.width, "mlp.shared_experts", "_shexp")
        if is_v3:
            choice = f"model.layers.{i}.mlp.gate.e_score_correction_bias"
            tensors.append(Tensor(f"{block}.exp_probs_b.bias", (shape.experts,), choice))
    keys = shape.keys(
        feed_forward_length=DENSE_WIDTH,
        leading_dense_block_count=dense,
        expert_shared_count=config.n_shared_experts,
        rope__dimension_count=rope,
        attention__key_length=rank + rope,
        attention__value_length=rank,
        attention__key_length_mla=plain + rope,
        attention__value_length_mla=value,
        attention__kv_lora_rank=rank,
        expert_gating_func=2 if is_v3 else 1,
        expert_weights_scale=scale,
        expert_weights_norm=is_v3,
        expert_group_count=groups[0],
        expert_group_used_count=groups[1],
    )
    keys["attention.head_count_kv"] = shape.heads if shape.index == 0 else 1
    if query_rank is not None:
        keys["attention.q_lora_rank"] = query_rank
    if mscale is not None:
        keys |= {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 40,
            "rope.scaling.yarn_log_multiplier": 0.1 * mscale,
        }
    return Spec("deepseek2", "deepseek2", config, keys, tensors)


def lfm2moe(shape: Shape) -> Spec:
    attention = ((1,), (0,), (1,))[shape.index]
    taps = (3, 4, 2)[shape.index]
    bias = shape.index == 1
    dense = (0, 1, 1)[shape.index]
    shape.layers = 3
    common = shape.config(
        intermediate_size=DENSE_WIDTH,
        moe_intermediate_size=shape.width,
        norm_eps=1e-5,
        num_experts=shape.experts,
        num_experts_per_tok=shape.chosen,
        num_dense_layers=dense,
        conv_L_cache=taps,
        conv_bias=bias,
        use_expert_bias=shape.index != 2,
        norm_topk_prob=shape.index != 1,
        routed_scaling_factor=(1.0, 2.0, 1.0)[shape.index],
        layer_types=["full_attention" if i in attention else "conv" for i in range(shape.layers)],
    )
    del common["rms_norm_eps"]
    config = hf.Lfm2MoeConfig(**common)
    tensors = shape.outside("model.embedding_norm")
    tensors[1] = Tensor("token_embd_norm.weight", (shape.hidden,), "model.embedding_norm.weight")
    for i in range(shape.layers):
        block, layer = f"blk.{i}", f"model.layers.{i}"
        tensors.append(Tensor(f"{block}.attn_norm.weight", (shape.hidden,), f"{layer}.operator_norm.weight"))
        if i in attention:
            own = shape.attention(i)[1:4] + shape.head_norms(i, "q_layernorm", "k_layernorm")
            output = Tensor(f"{block}.attn_output.weight", (shape.hidden, shape.q), f"{layer}.self_attn.out_proj.weight")
            tensors += [*own, output]
        else:
            conv = f"{block}.shortconv"
            kernel = Tensor(
                f"{conv}.conv.weight", (shape.hidden, taps), f"{layer}.conv.conv.weight", target=(shape.hidden, 1, taps)
            )
            square = (shape.hidden, shape.hidden)
            tensors += [
                Tensor(f"{conv}.in_proj.weight", (3 * shape.hidden, shape.hidden), f"{layer}.conv.in_proj.weight"),
                kernel,
                Tensor(f"{conv}.out_proj.weight", square, f"{layer}.conv.out_proj.weight"),
            ]
            if bias:
                tensors += [
                    Tensor(f"{conv}.in_proj.bias", (3 * shape.hidden,), f"{layer}.conv.in_proj.bias"),
                    Tensor(f"{conv}.conv.bias", (shape.hidden,), f"{layer}.conv.conv.bias"),
                    Tensor(f"{conv}.out_proj.bias", (shape.hidden,), f"{layer}.conv.out_proj.bias"),
                ]
        tensors.append(Tensor(f"{block}.ffn_norm.weight", (shape.hidden,), f"{layer}.ffn_norm.weight"))
        if i < dense:
            shapes = {"gate": ("w1", DENSE_WIDTH, shape.hidden), "up": ("w3", DENSE_WIDTH, shape.hidden)}
            shapes |= {"down": ("w2", shape.hidden, DENSE_WIDTH)}
            tensors += [
                Tensor(f"{block}.ffn_{x}.weight", (rows, cols), f"{layer}.feed_forward.{name}.weight")
                for x, (name, rows, cols) in shapes.items()
            ]
            continue
        tensors += shape.experts_of(i, "feed_forward")
        if config.use_expert_bias:
            tensors.append(Tensor(f"{block}.exp_probs_b.bias", (shape.experts,), f"{layer}.feed_forward.expert_bias"))
    keys = shape.keys(
        feed_forward_length=DENSE_WIDTH,
        leading_dense_block_count=dense,
        shortconv__l_cache=taps,
        expert_gating_func=2,
        expert_weights_scale=config.routed_scaling_factor,
        expert_weights_norm=config.norm_topk_prob,
    )
    keys["attention.head_count_kv"] = [shape.kv_heads if i in attention else 0 for i in range(shape.layers)]
    return Spec("lfm2moe", "lfm2moe", config, keys, tensors)
