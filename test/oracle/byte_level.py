"""Byte-level BPE vocabularies: made for the tiny models, and read back from a GGUF's tokenizer keys.

Owns token strings and merges. Knows no tensors.
"""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SPECIAL_TOKENS = ["<|bos|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"]
BOS_ID, PAD_ID, END_ID = 0, 1, 4
CHAT_TEMPLATE = (
    "{{ '<|bos|>' }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
NORMAL_TYPE, CONTROL_TYPE = 1, 3
SPACE = "Ġ"
MERGES = [
    *("_ t", "h e", "i n", "r e", "_ a", "o n", "_t he", "e r", "_ s", "a t", "_ w", "e n", "_ c", "i t"),
    *("o r", "i s", "e s", "_ b", "e d", "_ f", "in g", "_ p", "o u", "a n", "a l", "a r", "_ o", "_t o"),
    *("_ m", "_ d", "_ h", "l l", "_a n", "_an d", "_o f", "_ in", "i c", "_f o", "_fo r", "_c an", "_ he"),
]


def byte_symbols() -> list[str]:
    """The 256 printable characters that byte-level BPE writes for the bytes 0 to 255, in byte order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shifted = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(shifted)) for byte in range(256)]


def vocabulary(size: int) -> tuple[list[str], list[str]]:
    """Tokens (special tokens, 256 bytes, then one per merge) and merges of a vocabulary of `size` tokens."""
    merges = [merge.replace("_", SPACE) for merge in MERGES[: size - len(SPECIAL_TOKENS) - 256]]
    tokens = SPECIAL_TOKENS + byte_symbols() + [merge.replace(" ", "") for merge in merges]
    if len(tokens) != size or len(set(tokens)) != size:
        raise ValueError(f"a vocabulary of {size} tokens needs {size - 261} distinct merges; {len(merges)} are known")
    return tokens, merges


def tokenizer_from_gguf(fields: dict) -> Tokenizer:
    """A byte-level BPE tokenizer from `tokenizer.ggml.*` values; control tokens are matched as special tokens."""
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL_TYPE]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer
