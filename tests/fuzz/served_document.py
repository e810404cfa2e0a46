"""The specification's description of what this server serves, for a program that makes requests of it.

Where a parameter or a member of a body names something that must exist, one of its values is a placeholder, which
stands for a thing that exists on the server under test: `fill` puts it in just before a request is sent.
"""

import json
import re
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import requests

from tests.fuzz.hostile import list_endpoints
from tests.openapi import Operation, expand, operations, without_names


class Known(Protocol):
    """What exists, by name."""

    def __getitem__(self, name: str, /) -> str:
        """Its id, or text."""


# No character of it is escaped, neither in a path nor in JSON.
_PLACEHOLDER = re.compile("hs-known-([a-z]+)-0")

# Values by the name of a parameter or member; what is in angle brackets is a placeholder.
_OF_PARAMETERS: dict[str, list[Any]] = {
    "roomId": ["<room>"],
    "room_id": ["<room>"],
    "roomIdOrAlias": ["<room>", "<alias>"],
    "roomAlias": ["<alias>"],
    "userId": ["<self>", "<other>"],
    "user_id": ["<other>"],
    "eventId": ["<event>", "<state>"],
    "deviceId": ["<device>"],
    "filterId": ["<filter>"],
    "filter": ["<filter>", '{"room":{"timeline":{"limit":1}}}', "{}"],
    "from": ["<token>"],
    "to": ["<token>"],
    "since": ["<since>"],
    "server": ["<server>"],
    "eventType": ["m.room.message", "m.room.topic", "m.room.member", "m.reaction"],
    "stateKey": ["", "<self>"],
    "type": ["<data>", "m.direct"],
    "ruleId": ["<rule>"],
    "kind": ["override"],
    "before": ["<rule>"],
    "after": ["<rule>"],
    "tag": ["m.favourite", "u.work"],
    "keyName": ["displayname", "avatar_url", "m.tz", "org.example.key"],
    "relType": ["m.annotation", "m.thread", "m.reference", "m.replace"],
    "receiptType": ["m.read", "m.read.private", "m.fully_read"],
}

_OF_MEMBERS: dict[str, list[Any]] = {
    "room_id": ["<room>"],
    "user_id": ["<other>", "<self>"],
    "event_id": ["<event>", "<state>"],
    "m.fully_read": ["<event>"],
    "m.read": ["<event>"],
    "m.read.private": ["<event>"],
    "devices": [["<device>"]],
    "thread_id": ["main", "<event>"],
    "auth": [
        {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": "<self>"},
            "password": "<password>",
        },
        {"type": "m.login.dummy"},
    ],
    "identifier": [{"type": "m.id.user", "user": "<self>"}],
    "password": ["<password>"],
    "refresh_token": ["<refresh>"],
    "new_version": ["11", "12"],
    "room_version": ["1", "6", "11", "12"],
    "invite": [["<other>"]],
}


# Values that only one operation takes, and bodies that it takes as a whole.
_OF_OPERATIONS: dict[str, dict[str, list[Any]]] = {
    "POST /_matrix/client/v3/knock/{}": {"roomIdOrAlias": ["<knock>"]},
    "POST /_matrix/client/v3/rooms/{}/forget": {"roomId": ["<left>"]},
    "POST /_matrix/client/v3/rooms/{}/unban": {"body": [{"user_id": "<banned>"}]},
    "POST /_matrix/client/v3/rooms/{}/invite": {"body": [{"user_id": "<stranger>"}]},
    "PUT /_matrix/client/v3/directory/room/{}": {
        "roomAlias": ["<freealias>"],
        "body": [{"room_id": "<room>"}],
    },
    "PUT /_matrix/client/v3/profile/{}/{}": {"keyName": ["displayname"], "body": [{"displayname": "A"}]},
    "POST /_matrix/client/v3/login": {
        "body": [
            {
                "type": "m.login.password",
                "identifier": {"type": "m.id.user", "user": "<self>"},
                "password": "<password>",
            }
        ]
    },
    "POST /_matrix/client/v3/register": {
        "kind": ["user"],
        "body": [{"username": "<free>", "password": "<password>", "auth": {"type": "m.login.dummy"}}],
    },
    "POST /_matrix/client/v3/account/password": {
        "body": [{"new_password": "a new long secret", "auth": _OF_MEMBERS["auth"][0]}]
    },
    "PUT /_matrix/client/v3/pushrules/global/{}/{}": {"body": [{"actions": ["notify"], "conditions": []}]},
}


def with_placeholders(value: Any) -> Any:
    """The value with what is in angle brackets as placeholders."""
    if isinstance(value, str):
        return re.sub("<([a-z]+)>", r"hs-known-\1-0", value)
    if isinstance(value, list):
        return [with_placeholders(item) for item in value]
    if isinstance(value, dict):
        return {key: with_placeholders(item) for key, item in value.items()}
    return value


def _or_known(schema: Any, values: list[Any] | None) -> Any:
    if values is None:
        return schema
    return {"anyOf": [{"enum": with_placeholders(values)}, schema]}


def _body_with_known(schema: Any) -> Any:
    """The schema of a body, whose members may have values that exist."""
    if isinstance(schema, list):
        return [_body_with_known(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: _body_with_known(value) for key, value in schema.items()}
    properties = schema.get("properties")
    if isinstance(properties, dict):
        changed["properties"] = {
            name: _or_known(_body_with_known(node), _OF_MEMBERS.get(name))
            for name, node in properties.items()
        }
    return changed


def _describe(operation: Operation) -> dict[str, Any]:
    special, parameters = _OF_OPERATIONS.get(str(operation), {}), []
    for parameter in expand(operation.node["parameters"], operation.file):
        name = parameter["name"]
        schema = _or_known(parameter.get("schema", {}), special.get(name, _OF_PARAMETERS.get(name)))
        if name == "timeout":
            # Waiting as long as one is asked to is right, so nobody asks for it here.
            schema = {"type": "integer", "minimum": -10, "maximum": 10}
        parameters.append({**parameter, "schema": schema})
    described = {"parameters": parameters, "responses": {"200": {"description": ""}}}
    body = expand(operation.node.get("requestBody"), operation.file)
    if body is not None:
        content = body["content"]["application/json"]
        content["schema"] = _or_known(_body_with_known(content["schema"]), special.get("body"))
        described["requestBody"] = body
    return described


def served_document() -> dict[str, Any]:
    """OpenAPI of all that is served and that the specification has."""
    served = {(e.method, without_names(path)) for e in list_endpoints() for path in e.paths}
    paths: dict[str, Any] = {}
    for key in sorted(operations().keys() & served):
        operation = operations()[key]
        paths.setdefault(operation.template, {})[operation.method.lower()] = _describe(operation)
    return {"openapi": "3.1.0", "info": {"title": "served", "version": "1"}, "paths": paths}


def request_of(case: Any, base_url: str, known: Known) -> tuple[str, str, bytes | None]:
    """Method, path with query, and body of a case that Schemathesis has made."""
    kwargs = case.as_transport_kwargs(base_url=base_url)
    body = kwargs.get("data")
    if "json" in kwargs:
        body = json.dumps(kwargs["json"]).encode()
    elif isinstance(body, str):
        body = body.encode(errors="replace")
    elif not isinstance(body, bytes | None):
        body = json.dumps(body, default=str).encode()
    url = requests.Request("GET", kwargs["url"], params=kwargs.get("params")).prepare().url or ""
    parts = urlsplit(fill_path(url, known))
    path = parts.path + ("?" + parts.query if parts.query else "")
    return kwargs["method"], path, None if body is None else fill_body(body, known)


def fill_path(path: str, known: Known) -> str:
    """The path or URL with what exists in place of placeholders."""
    return _PLACEHOLDER.sub(lambda match: quote(known[match[1]], safe=""), path)


def fill_body(body: bytes, known: Known) -> bytes:
    """The JSON with what exists in place of placeholders."""
    if b"hs-known-" not in body:
        return body
    text = body.decode(errors="surrogateescape")
    text = _PLACEHOLDER.sub(lambda match: json.dumps(known[match[1]])[1:-1], text)
    return text.encode(errors="surrogateescape")
