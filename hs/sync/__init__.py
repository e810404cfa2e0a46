r"""The read side of rooms: what a user may see, as the bytes a client gets.

    commit --> user_rooms   who of us is in which room, for everybody who syncs
           \-> news         busy rooms' last events and states; wakes waiting long polls

    sync_v2       GET /sync: which rooms have news, section by section; first_syncs: long ones, once
    room_section  one room of a sync: room_timeline, room_state (with lazy_members), summary
    invites       rooms that a user is invited to or knocks at
    access        who may read a room at all, and up to where; visibility: which of its events
    pagination    /messages, /context, /event; room_reader: /state, /members
    client_events events as client JSON: the shared part once, the personal part spliced in

Rules:
- A room without news costs a sync nothing: no query, no look at it.
- Everything a sync tells is as of one token; what comes later, the next sync tells.
- An event becomes JSON once; content bytes are never decoded for it.
- States are compared as trees: a gap costs what changed in it, not what the room has.
- Tokens (what a client has seen) and positions (where an event is) are different things.

Answers to: client-server-api "Syncing", "Getting events for a room", "Room history visibility",
"Lazy-loading room members", "Stripped state".
"""
