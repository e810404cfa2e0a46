"""How rooms are found: aliases of this server and its published list.

    client_api.directory, client_api.rooms
        | "#name:here", "publish this room", "what is public here?"
    aliases       who may make, remove and list aliases; canonical_alias content is checked here
    public_rooms  the published list: search, room types, paging
        |
    storage.aliases

Rules:
- An alias leads to a room by its number; names of other servers are theirs to resolve.
- A directory entry is a pure function of eight state events, so it is cached by their numbers and
  never invalidated.
- Who may set a room's canonical alias may also remove its aliases and publish it.
- An alias that a new room asks for, and the room's publication, commit with the room or not at all.

Answers to: client-server-api "Room aliases" and "Published room directory".
"""
