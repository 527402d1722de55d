"""Text that tokenizers get wrong: the lines that the encodings' golden file is made from.

Owns the lines only; all written for this purpose.
"""

import random

LINES = [
    "",
    " ",
    "  ",
    "   three spaces, then   three more   ",
    "a" * 70,
    "Hello world! It's what they've said: we'll see, I'd go; you're IT'S THEY'VE WE'LL.",
    "\u2018curly\u2019 quotes don\u2019t count as \u017f or it'\u017ftest",
    "tabs\tand\t\ttabs\n\nlines\r\nmixed\r\r\n  \n   indented\n",
    "trailing newline\n",
    "\n\n\n",
    "1 12 123 1234 12345 123456789 3.14159 1,000,000 0x1F 1e-9 \u0663\u0661\u0664 \u00bd \u2167 x\u00b2",
    "f(x)=x**2+3*x-1; // if (a&&b||!c) { return a[i]->next; }",
    "def main(args: list[str]) -> None:\n    for i in range(10):\n        print(f'{i:>3}', end=\"\\t\")\n",
    "https://example.org/path?q=a%20b&lang=en#top user@example.org C:\\Temp\\new",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u65e5\u672c\u8a9e\u3068\u6f22\u5b57 \ud55c\uad6d\uc5b4 \u0e44\u0e17\u0e22",
    (
        "Stra\u00dfe \u00c5ngstr\u00f6m na\u00efve \u0141\u00f3d\u017a"
        " \u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac \u0420\u0443\u0441\u0441\u043a\u0438\u0439"
    ),
    "\u05e2\u05d1\u05e8\u05d9\u05ea \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0939\u093f\u0928\u094d\u0926\u0940",
    "e\u0301 e\u0301\u0323 A\u030a \u1e9b\u0323 \u212b \ufb01 \u00e9 n\u0303o",
    (
        "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
        " \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea 1\ufe0f\u20e3 \U0001f44d\U0001f3fd"
    ),
    "\ufeffbom \u0085next\u2028line\u2029para\u00a0nbsp\u3000wide\u200bzero\u2009thin",
    "\u0000\u0001\u001f\u007f\u0080\u009f\u00ad",
    "$5.00 + \u20ac6 <= 7^8 ~ |9| = <tag attr='v'>&amp;</tag> `code` #hash @at %mod _under_",
    '!?!? ... --- *** === (((nested))) [[x]] {{y}} """',
    "<|bos|> <|user|>hi<|end|><|assistant|> <|pad|><|sys tem|> <|end|",
    "<s>[INST] not special [/INST]</s> <unk> <0x0A> <0xFF>",
    "camelCase snake_case SCREAMING_CASE kebab-case XMLHttpRequest v2.0.1-rc1",
    "The the THE tHe  The\tthe\nThe",
    "___proto__ __proto__ constructor hasOwnProperty toString",
    "\u00ab\u00a0guillemets\u00a0\u00bb \u2014 em\u2013en \u2026 \u2122 \u00a9 \u00ae \u00b6",
    "\U00010437\U00010437 \U0001d54f\U0001d550 \U00020000\U0002a6d6 \U0010fffd",
    "".join(chr(code) for code in range(256)),
    "word " * 40,
    "RIGHT LEFT xylophone zebra",
    "\u2581already \u2581\u2581spaced\u2581",
]


def random_lines(count: int) -> list[str]:
    """Lines of random pieces, so that everything meets everything."""
    rng = random.Random(11)
    pieces = [piece for line in LINES for piece in line.split(" ")] + [
        " ",
        "  ",
        "\n",
        "\t",
        "'s",
        "7",
        "\u0301",
        "\u200d",
    ]
    return ["".join(rng.choice(pieces) for _ in range(rng.randint(2, 12))) for _ in range(count)]
