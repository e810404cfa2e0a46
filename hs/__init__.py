"""A Matrix homeserver for large rooms.

Floors: a module imports from floors below its own, never from its own floor's siblings or from above.

    6  client_api  admin_api          endpoints: decode, call one service, encode
    5  http                           aiohttp wiring, @endpoint, request auth, rate limits, errors -> JSON
    4  sync  accounts                 what clients read; people
    3  rooms                          the one writer of rooms
    2  storage  net                   the only SQL; the only outbound HTTP
    1  matrix                         the protocol: pure, no await, no clock, no random, no logging
    0  _fast                          Cython kernels over bytes and integers

    server.py (composition root), config.py and cli.py know them all.

News travels upward by callbacks that server.py plugs in; sideways needs are Protocols declared by the
consumer. `tests/test_architecture.py` guards all of this by parsing the imports.

Start: `hs serve`, or `python -m hs serve`. The specification meant everywhere is Matrix v1.19.
"""
