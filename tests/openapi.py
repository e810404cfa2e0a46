"""What the specification says about answers: each is checked against the schema of its operation.

The OpenAPI files and event schemas are read from `../shared/matrix-spec` beside the checkout. Where they are not,
`SPEC` does not exist and nothing is checked. Unknown members are fine everywhere; missing ones and wrong types
are not. `valid` counts the answers that were right, by operation and status.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import yaml

SPEC = Path(__file__).parents[2] / "shared" / "matrix-spec" / "data"
_API = SPEC / "api" / "client-server"
_EVENTS = SPEC / "event-schemas" / "schema"

# Text, and examples that refer to files in other formats.
_NO_SCHEMA = {"description", "example", "examples"}
_NAMES = {"properties", "patternProperties"}
_ERRCODE = re.compile(r"[A-Z][A-Z0-9_.]*_[A-Z0-9_]+")

# Paths that no file has, by the template they stand for: the last slash may be left out.
_ALIASES = {
    "/_matrix/client/v3/rooms/{}/state/{}": "/_matrix/client/v3/rooms/{}/state/{}/{}",
    "/_matrix/client/v3/pushrules": "/_matrix/client/v3/pushrules/",
    "/_matrix/client/v3/pushrules/global": "/_matrix/client/v3/pushrules/global/",
}

# Answers that the schema refuses and clients expect.
_KNOWN = {
    # No TURN servers: browsers refuse an empty list of addresses, so every server leaves it out.
    ("GET /_matrix/client/v3/voip/turnServer", "{}"),
}

# Filters that change what events look like.
_CUT = re.compile(r"event_fields|event_format")

# (operation, status) -> answers that were checked and right
valid: Counter[tuple[str, int]] = Counter()


class InvalidAnswer(AssertionError):
    """An answer that the specification does not allow."""


@cache
def read(file: Path) -> Any:
    return yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def expand(node: Any, file: Path, within: tuple[tuple[Path, str], ...] = (), is_names: bool = False) -> Any:
    """The node with all that it refers to in place, as JSON Schema; what contains itself is open from there on."""
    if isinstance(node, list):
        return [expand(item, file, within) for item in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    if isinstance(reference, str) and not is_names:
        name, _, pointer = reference.partition("#")
        target = (file.parent / name).resolve() if name else file
        if (target, pointer) in within:
            return {}
        found = read(target)
        for key in filter(None, pointer.split("/")):
            found = found[key.replace("~1", "/").replace("~0", "~")]
        return expand(found, target, (*within, (target, pointer)))
    expanded = {}
    for key, value in node.items():
        if is_names or key not in _NO_SCHEMA:
            # Where an answer has one of two shapes, the one may be a case of the other.
            name = "anyOf" if key == "oneOf" and not is_names else key
            expanded[name] = expand(value, file, within, not is_names and key in _NAMES)
    return expanded


def compile_schema(node: Any, file: Path) -> Any:
    """A validator of a node in one of the specification's files."""
    return jsonschema_rs.Draft202012Validator(expand(node, file))


@dataclass(eq=False)
class Operation:
    """An operation of the client-server API; its path has `{}` for each parameter, its template their names."""

    method: str
    path: str
    template: str
    file: Path
    node: Any = field(repr=False)
    _validators: dict[int, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def validator(self, status: int) -> Any:
        """What judges answers with this status; None where the specification does not describe them."""
        if status not in self._validators:
            answer = expand(self.node["responses"].get(str(status)), self.file) or {}
            schema = answer.get("content", {}).get("application/json", {}).get("schema")
            self._validators[status] = None if schema is None else jsonschema_rs.Draft202012Validator(schema)
        return self._validators[status]


def without_names(path: str) -> str:
    """The path with `{}` for each parameter."""
    return re.sub(r"\{\w+\}", "{}", path)


@cache
def operations() -> dict[tuple[str, str], Operation]:
    """All operations, by method and path; none where the specification is not there."""
    found = {}
    for file in sorted(_API.glob("*.yaml")):
        document = read(file)
        base = document["servers"][0]["variables"]["basePath"]["default"]
        for path, methods in document["paths"].items():
            for method in methods.keys() & {"get", "put", "post", "delete"}:
                shared, node = methods.get("parameters", []), methods[method]
                node = node | {"parameters": [*shared, *node.get("parameters", ())]}
                template = base + path.strip()
                made = Operation(method.upper(), without_names(template), template, file, node)
                found[made.method, made.path] = made
    return found


@cache
def _tree() -> dict[str, Any]:
    """The operations by the segments of their paths; "" after the last one leads to the methods."""
    root: dict[str, Any] = {}
    for (method, path), operation in operations().items():
        names = [path, *(alias for alias, meant in _ALIASES.items() if meant == path)]
        for name in names:
            node = root
            for segment in name.split("/"):
                node = node.setdefault("{}" if segment == "{}" else "/" + segment, {})
            node.setdefault("", {})[method] = operation
    return root


def _walk(node: dict[str, Any], segments: list[str]) -> dict[str, Operation] | None:
    if not segments:
        return node.get("")
    for key in ("/" + segments[0], "{}"):
        if key in node and (found := _walk(node[key], segments[1:])) is not None:
            return found
    return None


def find_operation(method: str, url_path: str) -> Operation | None:
    """The operation that a request is for; None for what the specification does not have."""
    path = url_path.partition("?")[0].replace("/_matrix/client/r0/", "/_matrix/client/v3/", 1)
    methods = _walk(_tree(), [unquote(segment).replace("/", "%2F") for segment in path.split("/")])
    return None if methods is None else methods.get(method)


def check(method: str, url_path: str, status: int, body: Any) -> None:
    """InvalidAnswer where the answer to this request is not one of the specification's."""
    if not operations() or method not in ("GET", "PUT", "POST", "DELETE"):
        return
    if status >= 400 and url_path.startswith("/_matrix/"):
        _check_error(f"{method} {url_path}", status, body)
    operation = find_operation(method, url_path)
    if operation is None:
        return
    validator = operation.validator(status)
    if status == 401 and "errcode" in body:
        # About the token, which every operation checks before anything that its own 401 is about.
        validator = None
    if validator is not None and (str(operation), str(body)) not in _KNOWN and not _CUT.search(url_path):
        for wrong in list_errors(validator, body):
            raise InvalidAnswer(f"{operation} answered {status} with what its schema refuses: {wrong}")
    if status == 200:
        for wrong in wrong_server_events(body):
            raise InvalidAnswer(f"{operation} answered with an event that its schema refuses: {wrong}")
    valid[str(operation), status] += 1


def check_headers(url_path: str, headers: Mapping[str, str]) -> None:
    """InvalidAnswer where a browser could not read the answer, or would not take it for JSON."""
    if not url_path.startswith(("/_matrix/", "/.well-known/")):
        return
    if headers.get("Access-Control-Allow-Origin") != "*":
        raise InvalidAnswer(f"{url_path}: no CORS headers: {dict(headers)}")
    # What has no body has no kind either.
    if headers.get("Content-Type", "application/json") != "application/json":
        raise InvalidAnswer(f"{url_path}: not JSON: {dict(headers)}")


def list_errors(validator: Any, instance: Any) -> Iterator[str]:
    """What is wrong, each with its place; nothing where all is right."""
    if not validator.is_valid(instance):
        for error in validator.iter_errors(instance):
            place = "/".join(str(part) for part in error.instance_path)
            yield f"{place or 'the body'}: {error.message[:500]}"


def _check_error(request: str, status: int, body: Any) -> None:
    if not isinstance(body, dict):
        raise InvalidAnswer(f"{request}: the error {status} is no JSON object: {body!r}")
    if status == 401 and "flows" in body:
        return
    errcode, error = body.get("errcode"), body.get("error")
    if not isinstance(errcode, str) or _ERRCODE.fullmatch(errcode) is None or not isinstance(error, str):
        raise InvalidAnswer(f"{request}: the error {status} has not the standard shape: {body!r}")
    if status == 429 and not isinstance(body.get("retry_after_ms"), int):
        raise InvalidAnswer(f"{request}: nothing says when to try again: {body!r}")


@cache
def _event_validator(name: str) -> Any:
    """What judges whole events with the schema of this name; None where there is none."""
    file = _EVENTS / f"{name}.yaml"
    return compile_schema(read(file), file) if file.exists() else None


@cache
def _content_validator(name: str) -> Any:
    """What judges the content of events; room ids and such are left out in some answers."""
    file = _EVENTS / f"{name}.yaml"
    if not file.exists():
        return None
    content = read(file).get("properties", {}).get("content", {})
    return compile_schema(content, file)


# Made by the server alone, whatever clients send.
_SERVERS_OWN = {"m.receipt", "m.typing", "m.presence"}


def wrong_server_events(body: Any) -> Iterator[str]:
    """What is wrong about receipts, typing users and presence in a /sync or /events answer."""
    if not isinstance(body, dict):
        return
    rooms = body.get("rooms")
    places = [*rooms.get("join", {}).values()] if isinstance(rooms, dict) else []
    events = [event for room in places for event in room.get("ephemeral", {}).get("events", ())]
    presence = body.get("presence")
    events += presence.get("events", ()) if isinstance(presence, dict) else ()
    for event in events:
        kind = event.get("type")
        if kind in _SERVERS_OWN:
            for wrong in list_errors(_event_validator(kind), event):
                yield f"{kind} {wrong}"


def wrong_events(body: Any) -> Iterator[str]:
    """What is wrong about the content of all events in an answer, where clients sent right ones only."""
    if isinstance(body, list):
        for item in body:
            yield from wrong_events(item)
    if not isinstance(body, dict):
        return
    content, kind = body.get("content"), body.get("type")
    is_redacted = isinstance(body.get("unsigned"), dict) and "redacted_because" in body["unsigned"]
    if isinstance(content, dict) and isinstance(kind, str) and not is_redacted:
        message = f"{kind}${content.get('msgtype')}"
        validator = _content_validator(message) or _content_validator(kind)
        if validator is not None:
            for wrong in list_errors(validator, content):
                yield f"{kind} {body.get('event_id', '')} {wrong}"
    for value in body.values():
        yield from wrong_events(value)
