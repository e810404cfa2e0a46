"""Globs agree with a naive matcher, also on what is made to be slow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs.matrix.globs import contains_word, has_wildcard, is_word, split_words, whole_matcher, word_matcher

PATTERNS = st.text("ab*? .", max_size=8)
TEXTS = st.text("ab _.\n", max_size=10)


def naive_match(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return naive_match(pattern[1:], text) or (bool(text) and naive_match(pattern, text[1:]))
    return bool(text) and pattern[0] in ("?", text[0]) and naive_match(pattern[1:], text[1:])


def is_boundary(text: str, index: int) -> bool:
    def is_word(character: str) -> bool:
        return character.isalnum() or character == "_"

    return index in (0, len(text)) or not (is_word(text[index - 1]) and is_word(text[index]))


def naive_word(pattern: str, text: str) -> bool:
    places = [index for index in range(len(text) + 1) if is_boundary(text, index)]
    return any(naive_match(pattern, text[i:j]) for i in places for j in places if i <= j)


@given(PATTERNS, TEXTS)
def test_whole_matches_agree_with_the_naive_matcher(pattern: str, text: str) -> None:
    assert whole_matcher(pattern)(text) == naive_match(pattern, text)


@given(PATTERNS, TEXTS)
def test_word_matches_agree_with_the_naive_matcher(pattern: str, text: str) -> None:
    assert word_matcher(pattern)(text) == naive_word(pattern, text)


@given(st.text("ab .", max_size=4), TEXTS)
def test_contains_word_is_a_word_match_of_plain_text(word: str, text: str) -> None:
    assert contains_word(text, word) == naive_word(word, text)


@given(st.text("ab_", min_size=1, max_size=3), TEXTS)
def test_a_word_is_one_of_the_words_of_a_text(word: str, text: str) -> None:
    assert is_word(word)
    assert (word in split_words(text)) == naive_word(word, text)


def test_what_has_other_characters_is_no_word() -> None:
    assert not any(map(is_word, ("", "a b", "ä", "a-b", "*")))


def test_characters_of_regular_expressions_are_plain_text() -> None:
    for text in ("a.c", "(a", "[b]", "a+", "^a$", "a|b", "\\d", "{2}"):
        assert whole_matcher(text + "*")(text)
        assert word_matcher(text)(f"so {text} it is")
        assert not whole_matcher("*" + text)("abc2")


def test_wildcards_are_seen() -> None:
    assert has_wildcard("a*")
    assert has_wildcard("?")
    assert not has_wildcard("a.[b]")


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "pattern", ["*a" * 60 + "b", "a*" * 60 + "b", "?a" * 100 + "b", "*" * 200 + "b", "a*b", "a"]
)
@pytest.mark.parametrize("text", ["a" * 65_000, "a " * 32_000 + "bc", "ab" * 32_000 + "_"])
def test_hostile_patterns_end(pattern: str, text: str) -> None:
    whole_matcher(pattern)(text)
    word_matcher(pattern)(text)
