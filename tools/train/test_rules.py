"""Checks of what refining says of an answer by rule."""

import pytest

from rules import echoes, words_of, wrong_sums


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("He has 3 x 4 = 12 apples.", 0),
        ("So 5 + 5 = $9", 1),
        ("$10/2=$5 and 50% * 20 = 10", 0),
        ("1,000 * (2 + 1) = 3,000", 0),
        ("10 / 3 = 3.33", 0),
        ("2*2=4\n4*2=9\nThe answer is 9.", 0.5),
        ("A week = 7 days", 0),  # nothing to reckon
        ("7**99999=3 and 1/0=0", 0),  # not what people write: not judged
        ("9" * 80 + " + 1 = 2", 0),
    ],
)
def test_wrong_sums_are_counted(text: str, wrong: float):
    assert wrong_sums(text) == wrong


def test_a_phrase_said_again_is_an_echo():
    assert echoes("Where are you leaving from?") == 0
    assert echoes("Yes.") == 0
    assert echoes("I like some of it, but I like some of it.") == pytest.approx(1 / 3)


def test_words_are_lower_case_without_marks():
    assert words_of("I don't know, 7 Kings!") == ["i", "don't", "know", "kings"]
