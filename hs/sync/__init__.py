r"""The read side of rooms: what a user may see, as the bytes a client gets.

    commit --> notifier        wakes waiting long polls, keeps each room's newest stream ordering
          \--> user_rooms      who of us is in which room, for everybody who syncs
          \--> recent          each busy room's last events, ready to be served

    sync_v2        GET /sync: which rooms have news, section by section
    room_section   one room of a sync: timeline, state, summary
    client_events  events as client JSON: the shared part once, the personal part spliced in
    visibility     which events of a room a user may see (history visibility)
    pagination     /messages and /context

Rules:
- A room without news costs a sync nothing: no query, no look at it.
- An event becomes JSON once; content bytes are never decoded for it.
- Tokens (what a client has seen) and positions (where an event is) are different things.

Answers to: client-server-api "Syncing", "Getting events for a room", "Room history visibility",
"Lazy-loading room members", "Stripped state".
"""
