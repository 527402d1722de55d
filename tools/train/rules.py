"""What can be said of an answer by rule, without a model: its words, its echoes, its sums."""

import ast
import operator
import re

ECHO_WORDS = 3  # a phrase of so many words said again is an echo
TOLERANCE = 0.01  # of a sum's result: texts round
MOST_CHARACTERS = 60  # of a sum's left side; longer ones are not looked at
EQUATION = re.compile(r"(\d[\d\s.,$%()+*/x-]*|\([\d\s.,$%()+*/x-]*)=\s*\$?(-?\d[\d,]*(?:\.\d+)?)")
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower())


def echoes(text: str) -> float:
    """0..1: the share of its phrases of `ECHO_WORDS` words that it said before."""
    words = words_of(text)
    phrases = [tuple(words[at : at + ECHO_WORDS]) for at in range(len(words) - ECHO_WORDS + 1)]
    return 1 - len(set(phrases)) / len(phrases) if phrases else 0.0


def wrong_sums(text: str) -> float:
    """0..1: the share of its equations that do not hold; 0 without any that can be read."""
    held = []
    for left, right in EQUATION.findall(text):
        value = evaluate(left)
        if value is not None:
            stated = float(right.replace(",", ""))
            held.append(abs(value - stated) <= TOLERANCE * max(1.0, abs(value)))
    return 1 - sum(held) / len(held) if held else 0.0


def evaluate(expression: str) -> float | None:
    """The value of a sum as people type it ("3 x $4"); none where it is no sum."""
    plain = expression.translate(str.maketrans({"$": "", ",": "", "x": "*"})).replace("%", "/100")
    if len(plain) > MOST_CHARACTERS:
        return None
    try:
        return value_of(ast.parse(plain.strip(), mode="eval").body)
    except (SyntaxError, KeyError, TypeError, ZeroDivisionError, OverflowError):
        return None


def value_of(node: ast.expr) -> float:
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](value_of(node.left), value_of(node.right))
    if isinstance(node, ast.Constant):
        return float(node.value)
    raise TypeError(node)
