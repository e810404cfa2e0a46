"""Paths of the client-server API."""


def v3(path: str) -> tuple[str, str]:
    """The path as it is now, and as clients from before version 1.1 of the specification call it."""
    return f"/_matrix/client/v3{path}", f"/_matrix/client/r0{path}"
