"""Writes a trained model as a Hugging Face folder (safetensors, bf16) and as GGUF (Q4_0).

Experts become Q4_0; embedding, head and attention Q8_0; router and norms stay F32. The GGUF is
what llama.cpp's `olmoe` architecture reads: same names, same keys.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Quant
from safetensors.torch import load_file, save_file

from corpus import ASSISTANT, BOS, CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS, SYSTEM, USER
from olmoe import Config, Olmoe
from weights import load_huggingface, to_huggingface

CONTROL_TOKENS = (BOS, PAD, SYSTEM, USER, ASSISTANT, END)

# Hugging Face name below model.layers.N. -> GGUF name below blk.N., type.
GGUF_LAYER = {
    "input_layernorm.weight": ("attn_norm.weight", Quant.F32),
    "self_attn.q_proj.weight": ("attn_q.weight", Quant.Q8_0),
    "self_attn.k_proj.weight": ("attn_k.weight", Quant.Q8_0),
    "self_attn.v_proj.weight": ("attn_v.weight", Quant.Q8_0),
    "self_attn.o_proj.weight": ("attn_output.weight", Quant.Q8_0),
    "self_attn.q_norm.weight": ("attn_q_norm.weight", Quant.F32),
    "self_attn.k_norm.weight": ("attn_k_norm.weight", Quant.F32),
    "post_attention_layernorm.weight": ("ffn_norm.weight", Quant.F32),
    "mlp.gate.weight": ("ffn_gate_inp.weight", Quant.F32),
}
GGUF_OUTER = {
    "model.embed_tokens.weight": ("token_embd.weight", Quant.Q8_0),
    "model.norm.weight": ("output_norm.weight", Quant.F32),
    "lm_head.weight": ("output.weight", Quant.Q8_0),
}
EXPERT_TYPE = Quant.Q4_0


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def export_huggingface(model: Olmoe, tokenizer: Path, out: Path) -> None:
    """Folder that `AutoModelForCausalLM.from_pretrained` loads, weights bf16."""
    out.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.cpu().bfloat16() for name, tensor in to_huggingface(model).items()}
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    write_json(out / "config.json", model.config.to_huggingface())
    special = {"bos_token_id": BOS, "pad_token_id": PAD, "eos_token_id": END}
    write_json(
        out / "generation_config.json",
        {**special, "temperature": 0.7, "top_p": 0.9, "do_sample": True},
    )
    (out / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL_TOKENS[BOS],
            "eos_token": SPECIAL_TOKENS[END],
            "pad_token": SPECIAL_TOKENS[PAD],
            "add_bos_token": False,
            "model_max_length": model.config.max_position_embeddings,
            "chat_template": CHAT_TEMPLATE,
        },
    )


def gguf_tensors(state: dict[str, torch.Tensor], config: Config) -> list:
    """[(GGUF name, f32 array, type)]; experts stacked [experts, out, in]."""
    tensors = [(name, state[theirs].numpy(), kind) for theirs, (name, kind) in GGUF_OUTER.items()]
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        for theirs, (name, kind) in GGUF_LAYER.items():
            tensors.append((f"blk.{layer}.{name}", state[prefix + theirs].numpy(), kind))
        for name in ("gate", "up", "down"):
            experts = [
                state[f"{prefix}mlp.experts.{expert}.{name}_proj.weight"].numpy()
                for expert in range(config.num_experts)
            ]
            tensors.append((f"blk.{layer}.ffn_{name}_exps.weight", np.stack(experts), EXPERT_TYPE))
    return tensors


def export_gguf(folder: Path, out: Path, name: str) -> None:
    """One GGUF file from a Hugging Face folder of `export_huggingface`."""
    config = Config.load(folder / "config.json")
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    state = {k: tensor.float() for k, tensor in load_file(folder / "model.safetensors").items()}
    writer = gguf.GGUFWriter(out, "olmoe")
    writer.add_name(name)
    writer.add_license("cc-by-sa-4.0")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_expert_count(config.num_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)
    vocabulary = tokenizer["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.get)
    kinds = [gguf.TokenType.NORMAL] * len(tokens)
    for token in CONTROL_TOKENS:
        kinds[token] = gguf.TokenType.CONTROL
    merges = tokenizer["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(END)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    for tensor_name, array, kind in gguf_tensors(state, config):
        data = array if kind == Quant.F32 else gguf.quants.quantize(array, kind)
        writer.add_tensor(tensor_name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", type=Path, required=True, help="Hugging Face folder; written with --checkpoint")
    add("--checkpoint", type=Path, help="checkpoint.pt of train.py to write --model from first")
    add("--config", type=Path, help="config.json of the checkpoint's shape (default: 6 layers)")
    add("--tokenizer", type=Path, help="tokenizer.json to go with --checkpoint")
    add("--gguf", type=Path, help="GGUF file to write")
    add("--name", default="webmoe-chat-22m")
    arguments = parser.parse_args()
    if arguments.checkpoint:
        model = Olmoe(Config.load(arguments.config) if arguments.config else Config())
        state = torch.load(arguments.checkpoint, map_location="cpu")
        model.load_state_dict(state["model"])
        export_huggingface(model, arguments.tokenizer, arguments.model)
    if arguments.gguf:
        load_huggingface(arguments.model)  # refuses a folder with tensors missing
        export_gguf(arguments.model, arguments.gguf, arguments.name)


if __name__ == "__main__":
    main()
