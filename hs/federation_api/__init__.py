"""The server-server API: what other homeservers ask of us, endpoint by endpoint.

    keys                          our signing keys, and those of others that we vouch for as a notary
    transactions                  what is pushed to us
    memberships, invites          users of theirs come into our rooms, ours are asked into theirs
    events, state, timestamps     what they read of rooms that they are in
    queries, public_rooms, spaces profiles, aliases, and rooms before one is in them
    openid, version               open to everybody

Rules:
- A request is signed by its sender (`Auth.SERVER`); the parameter `origin` is that server's name. What the
  body says about who sends it must agree with it. Only keys and the version are open to everybody.
- Nothing here is served while federation is disabled.
- Each endpoint is limited by origin (bucket `federation`) and says how long its body may be where the
  ordinary limit does not fit; lists and maps of a body are bounded before anything is done with them.
- An endpoint decodes, asks one service and answers; whether a server may see an event or a room is decided
  by that service, never here.

Answers to: server-server-api.
"""
