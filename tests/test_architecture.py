"""The floors of the house, read from the source: who imports whom, and what belongs where."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent

# A module imports from floors below its own, never from above, never from a sibling package.
FLOORS = {
    "_fast": 0,
    "matrix": 1,
    "storage": 2,
    "net": 2,
    "rooms": 3,
    "sync": 4,
    "accounts": 4,
    "outbound": 4,
    "media": 4,
    "directory": 4,
    "http": 5,
    "client_api": 6,
    "federation_api": 6,
    "admin_api": 6,
}

MAX_COLLABORATORS = 7
MAX_LINES = 500

FORBIDDEN_PARAMETERS = {"app", "hs", "server", "services"}

# What would make the protocol depend on more than its arguments.
IMPURE_MODULES = {"time", "random", "secrets", "logging", "asyncio", "socket", "threading", "uuid"}


@dataclass(frozen=True)
class Module:
    """One Python file of the package."""

    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=str(self.path))

    @property
    def label(self) -> str:
        return str(self.path.relative_to(REPOSITORY))

    @property
    def package(self) -> str:
        """The first folder below hs, or the name of a file directly in it."""
        return self.path.relative_to(REPOSITORY / "hs").parts[0].removesuffix(".py")

    @property
    def is_kernel_code(self) -> bool:
        return self.package == "_fast"

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and dotted name of everything imported, also where it is imported inside a function."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.label}:{node.lineno}: relative import"
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


MODULES = [Module(path) for path in sorted((REPOSITORY / "hs").rglob("*.py"))]
KERNELS = sorted((REPOSITORY / "hs" / "_fast").glob("*.pyx"))


def _check(violations: list[str]) -> None:
    assert not violations, "\n" + "\n".join(violations)


def test_imports_go_down_only_and_siblings_never_import_each_other() -> None:
    violations = []
    for module in MODULES:
        own = FLOORS.get(module.package)
        for line, name in module.imports():
            parts = name.split(".")
            if parts[0] != "hs" or own is None or parts[1] == module.package:
                continue
            floor = FLOORS.get(parts[1])
            if floor is None or floor >= own:
                violations.append(f"{module.label}:{line}: {module.package} imports {name}")
    _check(violations)


def test_every_package_has_a_floor() -> None:
    """Files directly in hs put the house together and may know every floor."""
    folders = {
        path.name for path in (REPOSITORY / "hs").iterdir() if path.is_dir() and any(path.glob("*.py"))
    }
    assert folders <= set(FLOORS)


def test_the_protocol_is_pure() -> None:
    violations = []
    for module in MODULES:
        if module.package not in ("matrix", "_fast"):
            continue
        violations += [
            f"{module.label}:{line}: imports {name}"
            for line, name in module.imports()
            if name.split(".")[0] in IMPURE_MODULES
        ]
        violations += [
            f"{module.label}:{node.lineno}: asynchronous"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
        ]
    _check(violations)


_SQL = re.compile(
    r"^\s*(SELECT\s.+\s(FROM|AS)\s|SELECT\s+\w+\(|INSERT\s+INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s|"
    r"WITH\s+(RECURSIVE\s+)?\w+\s+(\([^)]*\)\s+)?AS\s|CREATE\s+(TABLE|INDEX|UNIQUE)|ALTER\s+TABLE|COPY\s+\w+)",
    re.DOTALL,
)


def test_sql_is_in_storage_only() -> None:
    _check(
        [
            f"{module.label}:{node.lineno}: SQL outside storage"
            for module in MODULES
            if module.package != "storage"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.match(node.value)
        ]
    )


def test_nobody_is_given_the_whole_house() -> None:
    _check(
        [
            f"{module.label}:{function.lineno}: {function.name} takes {argument.arg!r}"
            for module in MODULES
            for function in module.functions()
            for argument in _parameters(function)
            if argument.arg in FORBIDDEN_PARAMETERS and not _is_text(argument)
        ]
    )


def test_constructors_take_few_collaborators() -> None:
    _check(
        [
            f"{module.label}:{function.lineno}: {len(_parameters(function)) - 1} collaborators"
            for module in MODULES
            if not module.is_kernel_code and module.package != "matrix"  # data, not collaborators
            for function in module.functions()
            if function.name == "__init__" and len(_parameters(function)) - 1 > MAX_COLLABORATORS
        ]
    )


def test_long_files_say_why() -> None:
    long = []
    for path in sorted((REPOSITORY / "hs").rglob("*.py*")):
        if path.suffix not in (".py", ".pyx", ".pyi"):
            continue
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        if lines > MAX_LINES and not re.search(r"^\W*Size: \w", text[:3000], re.MULTILINE):
            long.append(f"{path.relative_to(REPOSITORY)}: {lines} lines and no 'Size:' reason in its header")
    _check(long)


def test_packages_hold_a_docstring_and_no_code() -> None:
    violations = []
    for module in MODULES:
        if module.path.name != "__init__.py" or module.is_kernel_code:
            continue
        lines = (ast.get_docstring(module.tree) or "").count("\n") + 1
        if len(module.tree.body) != 1:
            violations.append(f"{module.label}: has code")
        if not 14 <= lines <= 40:
            violations.append(f"{module.label}: a docstring of {lines} lines, 15 to 40 are wanted")
    for folder in {module.path.parent for module in MODULES}:
        if not (folder / "__init__.py").exists():
            violations.append(f"{folder.relative_to(REPOSITORY)}: no __init__.py")
    _check(sorted(violations))


def test_public_things_have_docstrings() -> None:
    violations = []
    for module in MODULES:
        if not ast.get_docstring(module.tree):
            violations.append(f"{module.label}: no docstring")
        for node in module.tree.body:
            if (
                isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and not node.name.startswith("_")
                and not ast.get_docstring(node)
                and not _is_overload(node)
            ):
                violations.append(f"{module.label}:{node.lineno}: {node.name} has no docstring")
    _check(violations)


def test_no_module_level_mutable_state() -> None:
    """A second worker, or a second server in one process, must not share what changes."""
    _check(
        [
            f"{module.label}:{node.lineno}: 'global'"
            for module in MODULES
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Global)
        ]
    )


def test_nothing_swallows_every_error() -> None:
    """No `except:`; an `except Exception` must not be silent."""
    violations = []
    for module in MODULES:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler):
                name = node.type.id if isinstance(node.type, ast.Name) else None
                if node.type is None:
                    violations.append(f"{module.label}:{node.lineno}: bare except")
                elif name == "Exception" and not _does_something(node):
                    violations.append(f"{module.label}:{node.lineno}: except Exception that is silent")
    _check(violations)


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_kernels_know_nothing_of_the_upper_floors(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"(?m)^\s*(?:from|cimport|import)\s+(hs\.[\w.]+)", text):
        assert name.startswith("hs._fast"), name


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    arguments = function.args
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]


def _is_text(argument: ast.arg) -> bool:
    """The name of a server is not the server."""
    return argument.annotation is not None and ast.unparse(argument.annotation).startswith("str")


def _is_overload(node: ast.AST) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "overload" for d in getattr(node, "decorator_list", []))


def _does_something(handler: ast.ExceptHandler) -> bool:
    """At least hands the error on: a log line, a helper, a raise."""
    return any(isinstance(node, ast.Raise | ast.Call) for node in ast.walk(handler))
