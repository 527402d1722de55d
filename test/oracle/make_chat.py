"""Makes the golden chat file of an embedded model: greedy answers by transformers on the dequantised GGUF weights.

Usage: python make_chat.py MODEL.gguf     writes test/golden/<general.name>.json
"""

import hashlib
import json
import sys
from pathlib import Path

import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from byte_level import tokenizer_from_gguf
from olmoe_gguf import Oracle

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
CHATS = 3
STEPS = 32
TOP = 5
MIN_ROUTER_MARGIN = 2e-6  # probability: about ten times the float32 rounding of a router's softmax
MIN_TOP1_MARGIN = 1e-2  # logits
QUESTIONS = [
    "I want to book a table for two at an Italian restaurant tonight.",
    "What kind of music do you like?",
    "Can you find me a flight to Paris on Monday?",
    "Hi, how are you today?",
    "Hello",
    "I need a hotel in San Francisco for three nights.",
    "What movie should I watch this weekend?",
    "Tell me about your favourite sport.",
    "Is there a good concert in London next Friday?",
    "I would like to order a pizza.",
    "What is the weather like in Seattle?",
    "Do you have a dog?",
]


def render(template: str, question: str) -> str:
    """One user message through the model's own chat template, with generation prompt."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    messages = [{"role": "user", "content": question}]
    return environment.from_string(template).render(messages=messages, add_generation_prompt=True)


def describe_step(logits: torch.Tensor) -> dict:
    """The largest logits of one step, and the log of the sum of all exponentials (logprob = logit - logSumExp)."""
    values, ids = logits.topk(TOP)
    top = [[token, round(value, 6)] for token, value in zip(ids.tolist(), values.tolist(), strict=True)]
    return {"top": top, "logSumExp": round(logits.logsumexp(0).item(), 6)}


def answer(oracle: Oracle, prompt: list[int]) -> dict:
    """A greedy answer of STEPS tokens; it goes on after an end token, as generate --ignore-eos does."""
    token_ids, steps, router_margin = list(prompt), [], 1.0
    for _ in range(STEPS):
        logits = oracle.run(token_ids)[-1]
        router_margin = min(router_margin, oracle.router_margins().min().item())
        steps.append(describe_step(logits))
        token_ids.append(steps[-1]["top"][0][0])
    top1_margin = min(step["top"][0][1] - step["top"][1][1] for step in steps)
    margins = {"routerMargin": router_margin, "top1Margin": round(top1_margin, 6)}
    return {"tokenIds": token_ids[len(prompt) :], **margins, "steps": steps}


def make_chat(oracle: Oracle, tokenizer: Tokenizer, question: str) -> dict:
    """One question with its rendered prompt, its ids and the golden answer."""
    rendered = render(oracle.fields["tokenizer.chat_template"], question)
    prompt_token_ids = tokenizer.encode(rendered, add_special_tokens=False).ids
    reply = answer(oracle, prompt_token_ids)
    text = tokenizer.decode(reply["tokenIds"], skip_special_tokens=False)
    return {"question": question, "rendered": rendered, "promptTokenIds": prompt_token_ids, "text": text, **reply}


def is_robust(chat: dict) -> bool:
    """Whether no near-tie lets a correct float32 engine route or answer differently."""
    return chat["routerMargin"] > MIN_ROUTER_MARGIN and chat["top1Margin"] > MIN_TOP1_MARGIN


def main(path: Path) -> None:
    """Takes the first questions whose answers are robust and writes them."""
    oracle = Oracle(path)
    tokenizer = tokenizer_from_gguf(oracle.fields)
    chats = []
    for question in QUESTIONS:
        chat = make_chat(oracle, tokenizer, question)
        print(question, chat["routerMargin"], chat["top1Margin"], repr(chat["text"]), file=sys.stderr)
        chats += [chat] if is_robust(chat) else []
        if len(chats) == CHATS:
            break
    else:
        raise RuntimeError(
            f"only {len(chats)} of {len(QUESTIONS)} answers have no near-tie; {CHATS} are needed: add questions"
        )
    name = oracle.fields["general.name"]
    golden = {"name": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "chats": chats}
    (GOLDEN / f"{name}.json").write_text(json.dumps(golden, separators=(",", ":"), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python make_chat.py MODEL.gguf")
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
