"""Trains the byte-level BPE tokenizer on the corpus: tokenizer.json."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from corpus import SPECIAL_TOKENS, read_documents


def contents(path: Path, every: int) -> Iterator[str]:
    """Contents of all messages of every `every`-th document."""
    for index, document in enumerate(read_documents(path)):
        if index % every == 0:
            yield from (message["content"] for message in document["messages"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--corpus", type=Path, required=True, help="folder with train.jsonl.gz")
    add("--out", type=Path, required=True, help="tokenizer.json to write")
    add("--vocabulary", type=int, default=4096)
    add("--every", type=int, default=1, help="use every N-th document only")
    arguments = parser.parse_args()
    # Splits as GPT-2 does, which GGUF readers know as the pre-tokenizer "gpt-2".
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=arguments.vocabulary,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = contents(arguments.corpus / "train.jsonl.gz", arguments.every)
    tokenizer.train_from_iterator(texts, trainer)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(arguments.out), pretty=False)
    print(f"{tokenizer.get_vocab_size()} tokens -> {arguments.out}")


if __name__ == "__main__":
    main()
