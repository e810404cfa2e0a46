"""The protocol: what events, identifiers and signatures are, and what is allowed. Pure.

Nothing here awaits, reads a clock, draws random numbers, logs or touches a file: the same arguments
always give the same answer. Callers pass `now_ms` and file contents in. Hot loops live in the kernels
of `hs._fast`; here is the readable protocol that calls them.

Two questions about an event are kept apart, as the spec has them:

    PDU (dict)  --parse_event-->  Event      valid by itself? format, sizes, hash: asked once
    Event + state  --auth_rules-->  Verdict  allowed? asked many times, also inside state resolution

| module         | spec                                                                      |
|----------------|---------------------------------------------------------------------------|
| errors         | client-server-api "Standard error response": one class per errcode        |
| ids            | appendices "Identifier Grammar"                                           |
| room_versions  | rooms/v1 to v12: what differs between them, as named flags                |
| canonical_json | appendices "Canonical JSON"                                               |
| event          | server-server-api "PDUs"; client-server-api "Size limits"; event formats  |
| redaction      | rooms/v1 to v12 "Redactions"                                              |
| keys, signing  | appendices "Signing JSON"; server-server-api "Signing Events"             |
| auth_rules     | rooms/v1 to v12 "Authorisation rules"                                     |
| power_levels   | client-server-api m.room.power_levels; rooms/v12 on creators              |
| push_rules     | client-server-api "Push rules"                                            |
| filters        | client-server-api "Filtering"                                             |
| tokens         | positions in streams, and what clients get for them                       |
"""
