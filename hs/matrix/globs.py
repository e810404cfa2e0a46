"""Glob patterns (appendices, "Glob-style matching"): `*` is any run of characters, `?` any one character.

Whoever writes patterns and texts may mean harm: a text is scanned from the left once for each part between
the stars, without backtracking into parts that were found (atomic groups).
"""

import re
from collections.abc import Callable

Matcher = Callable[[str], bool]

# push.md, "Content-specific rules": word characters are these and no others. Texts come in lower case.
_WORD_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_INSIDE_WORD = r"(?<=[A-Za-z0-9_])(?=[A-Za-z0-9_])"
_BOUNDARY = rf"(?!{_INSIDE_WORD})"

_WORDS = re.compile("[A-Za-z0-9_]+")


def _part(text: str) -> str:
    return ".".join(re.escape(run) for run in text.split("?"))


def _longest_run(pattern: str) -> str:
    return max(re.split(r"[*?]", pattern), key=len)


def has_wildcard(pattern: str) -> bool:
    """Whether the pattern stands for more than one text."""
    return "*" in pattern or "?" in pattern


def whole_matcher(pattern: str) -> Matcher:
    """Tells whether a whole text matches; case counts."""
    if not has_wildcard(pattern):
        return pattern.__eq__
    first, *rest = (_part(part) for part in re.split(r"\*+", pattern))
    if not rest:
        regex = first
    else:
        *middle, last = rest
        # The first place where a part fits is as good as any later one: no need ever to come back.
        regex = first + "".join(f"(?>.*?{part})" for part in middle)
        # The last part has a fixed length, so there is one place for it: the end.
        length = len(re.split(r"\*+", pattern)[-1])
        regex += f"(?=.{{{length}}})(?>.*)(?<={last})" if last else ".*"
    return _guarded(_longest_run(pattern), regex, re.Pattern.fullmatch)


def word_matcher(pattern: str) -> Matcher:
    """Tells whether a text has a matching part that starts and ends at word boundaries; case counts.

    A boundary is any place that is not between two word characters.
    """
    if pattern and not has_wildcard(pattern):
        return lambda text: contains_word(text, pattern)
    first, *rest = (_part(part) for part in re.split(r"\*+", pattern))
    if not rest:
        regex = f"(?>.*?{_BOUNDARY}{first}{_BOUNDARY})"
    else:
        *middle, last = rest
        regex = f"(?>.*?{_BOUNDARY}{first})" + "".join(f"(?>.*?{part})" for part in middle)
        regex += f"(?>.*?{last}{_BOUNDARY})"
    return _guarded(_longest_run(pattern), regex, re.Pattern.match)


def _guarded(run: str, regex: str, match: Callable[[re.Pattern[str], str], object]) -> Matcher:
    compiled: list[re.Pattern[str]] = []

    def matches(text: str) -> bool:
        # Most texts do not have the pattern's plain letters; `in` finds that out many times faster.
        if run not in text:
            return False
        if not compiled:
            # Costs more than all else, and most patterns never get so far.
            compiled.append(re.compile(regex, re.DOTALL))
        return match(compiled[0], text) is not None

    return matches


def is_word(text: str) -> bool:
    """Whether the text is word characters and nothing else: where it is a word, it is one of `split_words`."""
    return bool(text) and _WORD_CHARACTERS.issuperset(text)


def split_words(text: str) -> frozenset[str]:
    """The runs of word characters of the text."""
    return frozenset(_WORDS.findall(text))


def contains_word(text: str, word: str) -> bool:
    """Whether the text has the word, starting and ending at word boundaries; case counts.

    A text of which much is asked is better asked for `split_words`, once.
    """
    start = text.find(word)
    while start >= 0:
        if _is_boundary(text, start) and _is_boundary(text, start + len(word)):
            return True
        start = text.find(word, start + 1)
    return False


def _is_boundary(text: str, index: int) -> bool:
    if index == 0 or index == len(text):
        return True
    return text[index - 1] not in _WORD_CHARACTERS or text[index] not in _WORD_CHARACTERS
