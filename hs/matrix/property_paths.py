r"""Dot-separated property paths (appendices): `content.m\.relates_to` is m.relates_to in content."""

import re

_TOKEN = re.compile(r"\\[.\\]|[^.]|\.")


def split_path(path: str) -> tuple[str, ...]:
    r"""The names along the path; `\.` is a dot in a name, `\\` a backslash, other backslashes stand for themselves."""
    names = [""]
    for token in _TOKEN.findall(path):
        if token == ".":
            names.append("")
        else:
            names[-1] += token[1:] if len(token) == 2 else token
    return tuple(names)
