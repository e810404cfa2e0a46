"""How rooms are found: aliases of this server, its published list, and spaces.

    client_api.directory, client_api.rooms, client_api.spaces
        | "#name:here", "publish this room", "what is public here?"
    aliases       who may make, remove and list aliases; canonical_alias content is checked here
    public_rooms  the published list: search, room types, paging
    overviews     what a room shows to whoever might join it, and who that is
    spaces        the rooms of a space, depth first
        |
    storage.aliases, storage.overviews

Rules:
- An alias leads to a room by its number; names of other servers are theirs to resolve.
- A directory entry is a pure function of eight state events, so it is cached by their numbers and
  never invalidated.
- Who may set a room's canonical alias may also remove its aliases and publish it.
- An alias that a new room asks for, and the room's publication, commit with the room or not at all.

Answers to: client-server-api "Room aliases", "Published room directory", "Spaces", GET /room_summary.
"""
