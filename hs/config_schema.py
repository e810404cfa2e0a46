"""Structs to TOML and back: decodes a whole file with every mistake at once, prints an annotated example.

Knows nothing about the options themselves; `hs.config` declares them. A field's documentation is the
`description` of its `msgspec.Meta`, a table's is the docstring of its Struct.
"""

import difflib
import inspect
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

S = TypeVar("S", bound=msgspec.Struct)

_SIZE_UNITS = {"B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


class ByteSize(int):
    """A number of bytes, written as an integer or as text like "256MiB"."""

    @classmethod
    def parse(cls, value: object) -> "ByteSize":
        """The size; ValueError where it is none."""
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return cls(value)
        if isinstance(value, str):
            digits = value.strip().rstrip("BKMGIbkmgi ")
            unit = value.strip()[len(digits) :].strip().upper() or "B"
            if digits.isdecimal() and unit in _SIZE_UNITS:
                return cls(int(digits) * _SIZE_UNITS[unit])
        raise ValueError('expected a number of bytes, or a text like "256MiB"')

    def __str__(self) -> str:
        for unit in ("GiB", "MiB", "KiB"):
            if self and self % _SIZE_UNITS[unit.upper()] == 0:
                return f"{int(self) // _SIZE_UNITS[unit.upper()]}{unit}"
        return super().__repr__()


class Decoder:
    """Turns one decoded TOML document into a Struct; collects the mistakes in `errors`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.errors: list[str] = []

    def decode(self, table: type[S], document: Mapping[str, Any], path: str = "") -> S | None:
        """The Struct, or None where something below it was wrong (see `errors`)."""
        known = {field.encode_name: field for field in fields(table)}
        values: dict[str, Any] = {}
        before = len(self.errors)
        for key, value in document.items():
            if key in known:
                values[known[key].name] = self._value(known[key], value, f"{path}{key}")
            else:
                self._report_unknown(f"{path}{key}", key, known)
        for field in known.values():
            if field.required and field.name not in values:
                self.errors.append(f"{path}{field.encode_name}: is missing")
        return table(**values) if len(self.errors) == before else None

    def _value(self, field: FieldInfo, value: Any, path: str) -> Any:
        plain = _plain_type(field.type)
        if _is_table(plain):
            if not isinstance(value, dict):
                self.errors.append(f"{path}: must be a table, [{path}]")
                return None
            return self.decode(plain, value, f"{path}.")
        if (item := _table_of_array(plain)) is not None:
            if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
                self.errors.append(f"{path}: must be tables, [[{path}]]")
                return None
            return tuple(self.decode(item, entry, f"{path}[{i}].") for i, entry in enumerate(value))
        try:
            return msgspec.convert(value, field.type, dec_hook=self._special)
        except msgspec.ValidationError as error:
            # msgspec names the place inside a list as " - at `$[0]`".
            reason, _, place = str(error).partition(" - at `$")
            self.errors.append(f"{path}{place.rstrip('`')}: {reason[0].lower()}{reason[1:]}")
            return None

    def _special(self, wanted: type, value: Any) -> Any:
        if wanted is ByteSize:
            return ByteSize.parse(value)
        if wanted is Path and isinstance(value, str) and value:
            return self._folder / Path(value).expanduser()
        raise ValueError("expected a path" if wanted is Path else f"expected {wanted.__name__}")

    def _report_unknown(self, path: str, key: str, known: Mapping[str, FieldInfo]) -> None:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        self.errors.append(f"{path}: unknown option; {hint}")


def render_example(table: type[msgspec.Struct], shown: Mapping[str, Any]) -> str:
    """A TOML file with every option of `table`, its documentation, and its default as a comment.

    Options in `shown` (by dotted path) are set to that value instead; values are bool, int, float, str,
    Path, ByteSize, or sequences of them.
    """
    head = "\n".join(f"# {line}".rstrip() for line in _paragraphs(inspect.getdoc(table) or ""))
    return f"{head}\n\n{_render(table, shown, '')}"


def _render(table: type[msgspec.Struct], shown: Mapping[str, Any], path: str) -> str:
    options, tables = [], []
    for field in fields(table):
        where = f"{path}{field.encode_name}"
        plain = _plain_type(field.type)
        item = plain if _is_table(plain) else _table_of_array(plain)
        if item is None:
            options.append(_render_option(field, where, shown))
            continue
        default = field.default if isinstance(field.default, item) else None
        if default is not None and _is_one_line(item):
            pairs = ", ".join(f"{f.encode_name} = {_toml(getattr(default, f.name))}" for f in fields(item))
            text = "".join(f"# {line}\n" for line in _paragraphs(_description(field)))
            options.append(f"{text}#{field.encode_name} = {{ {pairs} }}\n")
            continue
        text = "\n".join(f"# {line}".rstrip() for line in _paragraphs(inspect.getdoc(item) or ""))
        header = f"[{where}]" if _is_table(plain) else f"[[{where}]]"
        tables.append(f"{text}\n{header}\n{_render(item, shown, f'{where}.')}")
    return "\n".join(options + tables)


def _render_option(field: FieldInfo, where: str, shown: Mapping[str, Any]) -> str:
    lines = [f"# {line}" for line in _paragraphs(_description(field))]
    if where in shown:
        lines.append(f"{field.encode_name} = {_toml(shown[where])}")
    elif field.default is None:
        lines.append(f"#{field.encode_name} =")
    else:
        lines.append(f"#{field.encode_name} = {_toml(field.default)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        inner = ", ".join(_toml(item) for item in value)
        return (
            f"[{inner}]" if len(inner) < 80 else "[\n" + "".join(f"#    {_toml(v)},\n" for v in value) + "#]"
        )
    if isinstance(value, int | float) and not isinstance(value, ByteSize):
        return str(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _paragraphs(text: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        lines += ["", *textwrap.wrap(" ".join(paragraph.split()), 98)]
    return lines[1:]


def _description(field: FieldInfo) -> str:
    found = [meta.description for meta in get_args(field.type)[1:] if isinstance(meta, msgspec.Meta)]
    return next((text for text in found if text), "")


def _plain_type(declared: Any) -> Any:
    return get_args(declared)[0] if get_origin(declared) is Annotated else declared


def _is_table(plain: Any) -> bool:
    return isinstance(plain, type) and issubclass(plain, msgspec.Struct)


def _is_one_line(table: type[msgspec.Struct]) -> bool:
    """Small tables of which there are many, such as one rate limit, are shown inline."""
    return len(fields(table)) <= 2 and not any(_description(field) for field in fields(table))


def _table_of_array(plain: Any) -> type[msgspec.Struct] | None:
    arguments = get_args(plain)
    return arguments[0] if arguments and get_origin(plain) is tuple and _is_table(arguments[0]) else None
