"""Checks of the short tales: whole sentences, prompts that name what is in them."""

import random

import pytest
from tokenizers import Tokenizer

import tales
from tales import (
    Tale,
    choose_plain,
    find_tales,
    find_things,
    is_whole,
    prompts_for,
    split_sentences,
    things_in,
)
from test_train import tokenizer_file  # noqa: F401

KING = "Once upon a time there lived a king. Mr. Fox came to him one day."


def story(prompt: str, text: str) -> dict:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
    return {"source": "stories/grimm", "messages": messages}


def test_sentences_are_whole():
    """Titles end none, quotation marks belong to theirs, an unfinished one is dropped."""
    text = 'He saw Mr. Fox. "Come in!" he said. Then he'
    assert split_sentences(text) == ["He saw Mr. Fox.", '"Come in!"', "he said."]


def test_open_quotations_and_much_speech_are_refused():
    assert is_whole('The king said "Come," and went to the door of the house.')
    assert not is_whole('The king said "Come.')
    assert not is_whole("He said: 'Good day, Gretel.' 'Good day, Hans.' 'What.")
    assert not is_whole('"A long speech that goes on," said he.')
    assert is_whole("The king's son had the kings' horses.")


@pytest.fixture
def tokenizer(tokenizer_file) -> Tokenizer:  # noqa: F811
    return Tokenizer.from_file(str(tokenizer_file))


def test_tales_begin_with_a_paragraph_that_explains_itself(tokenizer, monkeypatch):
    monkeypatch.setattr(tales, "SHORTEST", 8)
    monkeypatch.setattr(tales, "LONGEST", len(tokenizer.encode(KING).ids))
    text = f"He had been there before.\n\n{KING} And so it went on.\n\nThe girl had seen this."
    (tale,) = find_tales([story("Tell me a story.", text)], tokenizer)
    assert (tale.source, tale.text, tale.opens) == ("stories/grimm", KING, True)


def test_prompts_name_what_the_tale_has():
    asked = [story(f"Make up a tale with a {thing} in it.", "") for thing in ("king", "fox") * 2]
    things = find_things([*asked, story("Tell me a story about a well.", "")])
    assert things == {"king", "fox"}  # what one prompt alone asks for may be no thing
    text = "The old king rose. A fox rang the bell."
    assert things_in(text, {"fox", "king", "rose", "ring"}) == ["king", "fox"]
    tale = Tale("stories/grimm", text, True, things=["king", "fox"])
    prompts = prompts_for(tale, random.Random(1), 20)
    assert len(set(prompts)) == len(prompts) == 12
    assert prompts[-1] in tales.ASKS_FOR_ANY
    assert all("king" in prompt or "fox" in prompt for prompt in prompts[:-1])
    assert prompts_for(Tale("stories/grimm", "The cat.", False), random.Random(1), 3) == []


def test_the_plainest_are_chosen_and_not_all_of_one_thing():
    named = [
        Tale("stories/grimm", f"{odd}", False, odd, [thing])
        for odd, thing in ((3.0, "king"), (1.0, "king"), (2.0, "king"), (9.0, "fox"))
    ]
    nameless = [Tale("stories/grimm", "a", opens, 0.5) for opens in (True, False)]
    chosen = choose_plain([*named, *nameless], 3, 2)
    assert [tale.oddness for tale in chosen] == [0.5, 1, 2] and chosen[0].opens
    assert [tale.oddness for tale in choose_plain(named, 9, 1)] == [1, 9]
