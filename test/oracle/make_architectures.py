"""Makes test/golden/architectures: three tiny models of every architecture, by transformers.

Usage: python make_architectures.py [NAME ...]     (all architectures, or those named)
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers as hf

from architecture_mixers import deepseek2, lfm2moe
from architecture_oracle import Spec, Tensor, make, write_golden
from architecture_shape import SHAPES, VOCAB, Shape

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "architectures"


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
    # A dense layer first, last, or none: llama.cpp knows none, and no tied head.
    dense = ([0], [2], [])[shape.index]
    shape.tied = False
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
    ) | ({"expert_shared_feed_forward_length": shared} if shared else {})
    return Spec("granitemoe", "granitemoe", config, keys, tensors)


def gpt_oss(shape: Shape) -> Spec:
    window = (16, 40, 128)[shape.index]
    # With the last base YaRN's upper bound is just below dimension 4: llama.cpp rounds bounds to whole dimensions, up there.
    theta = (150_000.0, 150_000.0, float(np.float32((64 / (2 * np.pi)) ** 4 + 0.05)))[shape.index]
    shape.layers, shape.tied = 3, False
    shape.head_dim = (32, 64, 32)[shape.index]
    shape.q, shape.kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    rope = {
        "rope_type": "yarn",
        "rope_theta": theta,
        "factor": 32.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "original_max_position_embeddings": 64,
        "truncate": False,
    }
    config = hf.GptOssConfig(
        **shape.config(head_dim=shape.head_dim, intermediate_size=shape.width, rope_parameters=rope),
        num_local_experts=shape.experts,
        num_experts_per_tok=shape.chosen,
        sliding_window=window,
        layer_types=["full_attention" if i % 2 else "sliding_attention" for i in range(shape.layers)],
    )
    tensors = shape.outside()
    for i in range(shape.layers):
        block, layer = f"blk.{i}", f"model.layers.{i}"
        tensors += [
            *shape.attention(i),
            *shape.qkv_biases(i),
            Tensor(f"{block}.attn_output.bias", (shape.hidden,), f"{layer}.self_attn.o_proj.bias"),
            Tensor(f"{block}.attn_sinks.weight", (shape.heads,), f"{layer}.self_attn.sinks"),
            shape.ffn_norm(i, file="post_attention_norm"),
            Tensor(f"{block}.ffn_gate_inp.weight", (shape.experts, shape.hidden), f"{layer}.mlp.router.weight"),
            Tensor(f"{block}.ffn_gate_inp.bias", (shape.experts,), f"{layer}.mlp.router.bias"),
        ]
        # transformers keeps them transposed, gate and up in alternate columns
        matrix = (shape.experts, shape.width, shape.hidden)
        experts = f"{layer}.mlp.experts"
        for part, x in enumerate(("gate", "up")):
            tensors += [
                Tensor(f"{block}.ffn_{x}_exps.weight", matrix, f"{experts}.gate_up_proj", part=part, interleaved=True),
                Tensor(
                    f"{block}.ffn_{x}_exps.bias",
                    (shape.experts, shape.width),
                    f"{experts}.gate_up_proj_bias",
                    part=part,
                    interleaved=True,
                ),
            ]
        down = (shape.experts, shape.hidden, shape.width)
        tensors += [
            Tensor(f"{block}.ffn_down_exps.weight", down, f"{experts}.down_proj", transposed=True),
            Tensor(f"{block}.ffn_down_exps.bias", (shape.experts, shape.hidden), f"{experts}.down_proj_bias"),
        ]
    keys = shape.keys(
        attention__sliding_window=window,
        rope__scaling__type="yarn",
        rope__scaling__factor=32.0,
        rope__scaling__original_context_length=64,
        rope__freq_base=theta,
    )
    return Spec("gpt-oss", "gpt-oss", config, keys, tensors)


def glm4moe(shape: Shape) -> Spec:
    norms, bias = shape.index != 1, shape.index != 2
    groups = ((1, 1), (4, 2), (3, 2))[shape.index]
    shape.head_dim = (32, 64, 16)[shape.index]
    shape.q, shape.kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    rope = {"rope_type": "default", "rope_theta": shape.theta, "partial_rotary_factor": 0.5}
    config = hf.Glm4MoeConfig(
        **shape.config(
            head_dim=shape.head_dim,
            intermediate_size=64,
            moe_intermediate_size=shape.width,
            rope_parameters=rope,
            partial_rotary_factor=0.5,
        ),
        n_routed_experts=shape.experts,
        num_experts_per_tok=shape.chosen,
        n_shared_experts=1,
        routed_scaling_factor=2.5,
        first_k_dense_replace=(1, 1, 0)[shape.index],
        use_qk_norm=norms,
        attention_bias=bias,
        n_group=groups[0],
        topk_group=groups[1],
        norm_topk_prob=shape.index != 2,
    )
    dense = config.first_k_dense_replace
    tensors = shape.outside()
    for i in range(shape.layers):
        tensors += shape.attention(i) + (shape.qkv_biases(i) if bias else []) + (shape.head_norms(i) if norms else [])
        tensors.append(shape.ffn_norm(i, file="post_attention_norm"))
        if i < dense:
            tensors += shape.mlp(i, 64, "mlp")
            continue
        tensors += shape.experts_of(i) + shape.mlp(i, shape.width, "mlp.shared_experts", "_shexp")
        choice = f"model.layers.{i}.mlp.gate.e_score_correction_bias"
        tensors.append(Tensor(f"blk.{i}.exp_probs_b.bias", (shape.experts,), choice))
    # A layer that guesses further ahead lies behind the others, and is not run.
    i, block = shape.layers, f"blk.{shape.layers}"
    extra = shape.attention(i) + (shape.qkv_biases(i) if bias else []) + (shape.head_norms(i) if norms else [])
    extra += [shape.ffn_norm(i, file="post_attention_norm"), *shape.experts_of(i)]
    extra += shape.mlp(i, shape.width, "mlp.shared_experts", "_shexp")
    extra += [
        Tensor(f"{block}.exp_probs_b.bias", (shape.experts,), ""),
        Tensor(f"{block}.nextn.eh_proj.weight", (shape.hidden, 2 * shape.hidden), ""),
        Tensor(f"{block}.nextn.enorm.weight", (shape.hidden,), ""),
        Tensor(f"{block}.nextn.hnorm.weight", (shape.hidden,), ""),
    ]
    keys = shape.keys(
        block_count=shape.layers + 1,
        nextn_predict_layers=1,
        feed_forward_length=64,
        leading_dense_block_count=dense,
        rope__dimension_count=shape.head_dim // 2,
        expert_gating_func=2,
        expert_shared_count=1,
        expert_weights_scale=2.5,
        expert_weights_norm=config.norm_topk_prob,
        expert_group_count=groups[0],
        expert_group_used_count=groups[1],
    )
    return Spec("glm4moe", "glm4moe", config, keys, tensors + [replace(tensor, parameter="") for tensor in extra])


def hunyuan_moe(shape: Shape) -> Spec:
    alpha = (1000.0, 1.0, 100.0)[shape.index]
    shape.head_dim = (32, 64, 16)[shape.index]
    shape.q, shape.kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    rope = {"rope_type": "dynamic", "rope_theta": shape.theta, "alpha": alpha, "factor": 1.0}
    config = hf.HunYuanMoEV1Config(
        **shape.config(head_dim=shape.head_dim, intermediate_size=shape.width, rope_parameters=rope),
        num_experts=shape.experts,
        moe_topk=shape.chosen,
    )
    tensors = shape.outside()
    for i in range(shape.layers):
        tensors += [*shape.attention(i), *shape.head_norms(i, "query_layernorm", "key_layernorm"), shape.ffn_norm(i)]
        tensors += shape.experts_of(i, router="gate.wg") + shape.mlp(i, shape.width, "mlp.shared_mlp", "_shexp")
    # The converter writes the stretched base.
    base = shape.theta * alpha ** (shape.head_dim / (shape.head_dim - 2))
    keys = shape.keys(rope__freq_base=base, feed_forward_length=shape.width, expert_shared_feed_forward_length=shape.width)
    return Spec("hunyuan-moe", "hunyuan-moe", config, keys, tensors)


def ernie4_5_moe(shape: Shape) -> Spec:
    first = (1, 0, 0)[shape.index]
    interval = (1, 2, 1)[shape.index]
    shared = (1, 2, 0)[shape.index]
    config = hf.Ernie4_5_MoeConfig(
        **shape.config(intermediate_size=64, moe_intermediate_size=shape.width),
        moe_num_experts=shape.experts,
        moe_k=shape.chosen,
        moe_num_shared_experts=shared,
        moe_layer_start_index=first,
        moe_layer_end_index=shape.layers - 1,
        moe_layer_interval=interval,
        use_bias=False,
    )
    tensors = shape.outside()
    for i in range(shape.layers):
        tensors += [*shape.attention(i), shape.ffn_norm(i)]
        if i < first or (i + 1) % interval != 0:
            tensors += shape.mlp(i, 64, "mlp")
            continue
        choice = f"model.layers.{i}.mlp.gate.moe_statics.e_score_correction_bias"
        tensors += shape.experts_of(i)
        tensors.append(
            Tensor(f"blk.{i}.exp_probs_b.bias", (shape.experts,), choice, target=(1, shape.experts)),
        )
        if shared:
            tensors += shape.mlp(i, shared * shape.width, "mlp.shared_experts", "_shexp")
    keys = shape.keys(feed_forward_length=64, interleave_moe_layer_step=interval, leading_dense_block_count=first)
    if shared:
        keys |= {"expert_shared_count": shared, "expert_shared_feed_forward_length": shared * shape.width}
    return Spec("ernie4_5-moe", "ernie4_5-moe", config, keys, tensors)


def phimoe(shape: Shape) -> Spec:
    # Sparsemixer chooses two experts, whatever the sizes above say.
    shape.chosen = 2
    attention_bias, head_bias = shape.index != 1, shape.index != 2
    rng = np.random.default_rng(shape.index)
    short = [float(x) for x in rng.uniform(1, 3, shape.head_dim // 2)]
    long = [float(x) for x in rng.uniform(3, 9, shape.head_dim // 2)]
    rope = {
        "rope_type": "longrope",
        "rope_theta": shape.theta,
        "short_factor": short,
        "long_factor": long,
        "short_mscale": 1.25,
        "long_mscale": 1.25,
        "original_max_position_embeddings": 64,
    }
    shape.tied = shape.tied and not head_bias
    config = hf.PhimoeConfig(
        **shape.config(intermediate_size=shape.width, rope_parameters=rope),
        num_local_experts=shape.experts,
        num_experts_per_tok=2,
        router_jitter_noise=0.01,  # a GGUF file does not say
        attention_bias=attention_bias,
        lm_head_bias=head_bias,
    )
    tensors = shape.outside()
    tensors.append(Tensor("output_norm.bias", (shape.hidden,), "model.norm.bias"))
    if head_bias:
        tensors.append(Tensor("output.bias", (VOCAB,), "lm_head.bias"))
    for x, values in (("short", short), ("long", long)):
        tensors.append(Tensor(f"rope_factors_{x}.weight", (shape.head_dim // 2,), "", values=tuple(values)))
    for i in range(shape.layers):
        block, layer = f"blk.{i}", f"model.layers.{i}"
        tensors += [*shape.attention(i), shape.ffn_norm(i), *shape.experts_of(i, router="router")]
        tensors += [
            Tensor(f"{block}.attn_norm.bias", (shape.hidden,), f"{layer}.input_layernorm.bias"),
            Tensor(f"{block}.ffn_norm.bias", (shape.hidden,), f"{layer}.post_attention_layernorm.bias"),
        ]
        if attention_bias:
            o = Tensor(f"{block}.attn_output.bias", (shape.hidden,), f"{layer}.self_attn.o_proj.bias")
            tensors += [*shape.qkv_biases(i), o]
    keys = shape.keys(
        feed_forward_length=shape.width,
        rope__scaling__attn_factor=1.25,
        rope__scaling__original_context_length=64,
    )
    return Spec("phimoe", "phimoe", config, keys, tensors)


ARCHITECTURES = {
    maker.__name__: maker
    for maker in (mixtral, qwen2moe, qwen3moe, granitemoe, phimoe, gpt_oss, glm4moe, hunyuan_moe, ernie4_5_moe, deepseek2, lfm2moe)
}


def main() -> None:
    for name in sys.argv[1:] or ARCHITECTURES:
        models = []
        for index in range(len(SHAPES)):
            spec = ARCHITECTURES[name](Shape(index))
            spec.name = f"{name}-{index}"
            models.append(make(spec))
            print(spec.name, file=sys.stderr)
        write_golden(GOLDEN / f"{name}.json", models)


if __name__ == "__main__":
    torch.set_num_threads(1)
    hf.logging.set_verbosity_error()
    main()
