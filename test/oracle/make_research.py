"""Makes test/golden/research: tiny models of the research line as folders of safetensors, and what research_models.py computes.

Usage: python make_research.py [NAME ...]     (all architectures, or those named)

Sizes are those of architecture_shape.py. A file's directory is the state dict of the PyTorch model; values are drawn from the
names, as the tests draw them again.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

import research_models as research
from architecture_oracle import compress, draw_values, make_answers, write_golden
from architecture_shape import SHAPES, Shape

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "research"
LENGTH_BYTES = 8


def common(shape: Shape, model_type: str, **extra: object) -> dict:
    config = shape.config(head_dim=shape.head_dim, rope_theta=shape.theta, model_type=model_type, **extra)
    del config["rope_parameters"]
    return config


def adamoe(shape: Shape) -> dict:
    """Nearly as many null experts as true ones, three times as many, and one."""
    return common(
        shape,
        "adamoe",
        intermediate_size=shape.width,
        num_local_experts=shape.experts,
        num_experts_per_tok=shape.chosen + 1,
        num_null_experts=(4, 24, 1)[shape.index],
    )


def dynamic_moe(shape: Shape) -> dict:
    """Every layer, every other one, and a p that one expert often passes."""
    config = common(
        shape,
        "llama",
        architectures=["MoEForCausalLM"],
        intermediate_size=shape.width,
        num_experts=shape.experts,
        expert_frequency=(1, 2, 1)[shape.index],
        top_p_threshold=(0.4, 0.6, 0.25)[shape.index],
    )
    # The authors' attention has as many key heads as query heads, of hidden / heads values.
    del config["head_dim"]
    return config | {"num_key_value_heads": shape.heads}


def blockffn(shape: Shape) -> dict:
    """The scores' norm by each of its kinds, factors on all streams, and latent attention."""
    config = common(
        shape,
        "minicpm",
        ffn_type="block",
        ffn_gated=False,
        router_act="relu",
        expert_size=shape.width,
        num_experts=(7, 9, 12)[shape.index],
        norm_after_router=("rms", "sum", "rms")[shape.index],
        norm_scale=(1.0, 2.0, 1.0)[shape.index],
        scale_emb=(12, 1, 3)[shape.index],
        scale_depth=(1.4, 1.0, 0.5)[shape.index],
        dim_model_base=(16, 96, 32)[shape.index],
        attention_type=("vanilla", "vanilla", "mla")[shape.index],
    )
    latent = {"q_lora_rank": 32, "kv_lora_rank": 64, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 48}
    if shape.index == 2:
        del config["head_dim"]
        return config | latent
    return config


def rmoe(shape: Shape) -> dict:
    """States narrower and wider than the residual stream; a dense layer before those with experts."""
    shape.layers = 3
    return common(
        shape,
        "llama_moe_rnn",
        intermediate_size=shape.width,
        num_local_experts=shape.experts,
        num_experts_per_tok=shape.chosen,
        moe_num_layers=(3, 2, 3)[shape.index],
        moe_router_type="gru",
        moe_router_rnn_hidden_size=(32, 64, 96)[shape.index],
        add_moe_share_expert=False,
        add_moe_bias=False,
    )


def rexmoe(shape: Shape) -> dict:
    """Groups of two and of three layers, two groups of two; weights renormalised, and a shared expert."""
    shape.layers = (2, 3, 4)[shape.index]
    return common(
        shape,
        "rexmoe",
        moe_intermediate_size=shape.width,
        num_experts=shape.experts,
        num_experts_per_tok=shape.chosen,
        expert_reuse_layers=(2, 3, 2)[shape.index],
        norm_topk_prob=shape.index == 1,
        n_shared_experts=(0, 0, 2)[shape.index],
    )


def openmoe(shape: Shape) -> dict:
    """Experts in every layer, in every second one, and in the last of three. Small heads: without a scale wider ones tie."""
    shape.layers = (2, 4, 3)[shape.index]
    shape.heads, shape.kv_heads, shape.head_dim = ((8, 2, 4), (24, 3, 4), (8, 8, 4))[shape.index]
    return common(
        shape,
        "llama",
        architectures=["OpenMoeForCausalLM"],
        hidden_act="swiglu",
        mlp_gated=True,
        intermediate_size=shape.width,
        num_experts=shape.experts,
        router_topk=shape.chosen,
        moe_layer_interval=(1, 2, 3)[shape.index],
    )


def coe(shape: Shape) -> dict:
    """Two rounds with a router each and a shared expert, three with one router, and one, its weights renormalised."""
    shape.layers = 2
    config = common(
        shape,
        "coe_deepseekv2",
        moe_intermediate_size=shape.width,
        n_routed_experts=shape.experts,
        n_shared_experts=(1, None, 2)[shape.index],
        num_experts_per_tok=max(2, shape.chosen),
        norm_topk_prob=shape.index == 2,
        routed_scaling_factor=(0.25, 0.125, 3.0)[shape.index],
        topk_method="greedy",
        n_group=1,
        topk_group=1,
        first_k_dense_replace=0,
        moe_layer_freq=1,
        inner_iter=(2, 3, 1)[shape.index],
        use_igate=shape.index != 1,
        inner_residual=True,
        outer_residual=False,
        q_lora_rank=(None, 32, None)[shape.index],
        kv_lora_rank=64,
        qk_nope_head_dim=32,
        qk_rope_head_dim=16,
        v_head_dim=(32, 64, 48)[shape.index],
    )
    del config["head_dim"]
    return config


# Configuration, layer, decoder.
MODELS = {
    "adamoe": (adamoe, research.AdaMoeLayer, research.Decoder),
    "dynamic_moe": (dynamic_moe, research.TopPLayer, research.Decoder),
    "blockffn": (blockffn, research.BlockFfnLayer, research.Decoder),
    "rmoe": (rmoe, research.RecurrentLayer, research.RecurrentDecoder),
    "coe": (coe, research.ChainLayer, research.Decoder),
    "openmoe": (openmoe, research.OpenLayer, research.Decoder),
    "rexmoe": (rexmoe, research.ReusingLayer, research.ReusingDecoder),
}


def make_model(name: str, config: dict, layer: type[torch.nn.Module], decoder: type[research.Decoder]) -> dict:
    def load() -> torch.nn.Module:
        model = decoder(config, layer).eval()
        values = {key: torch.from_numpy(draw_values(key, tuple(old.shape))) for key, old in model.state_dict().items()}
        model.load_state_dict(values)
        return model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file(load().state_dict(), path)
        data = path.read_bytes()
    header = data[: LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")]
    return {
        "name": name,
        "vocabSize": config["vocab_size"],
        "config": config,
        "header": compress(header),
        **make_answers(name, config["vocab_size"], load),
    }


def main() -> None:
    for name in sys.argv[1:] or MODELS:
        make_config, layer, decoder = MODELS[name]
        models = []
        for index in range(len(SHAPES)):
            models.append(make_model(f"{name}-{index}", json.loads(json.dumps(make_config(Shape(index)))), layer, decoder))
            print(f"{name}-{index}", file=sys.stderr)
        write_golden(GOLDEN / f"{name}.json", models)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
