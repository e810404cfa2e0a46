-- Room aliases of this server and the rooms it publishes.

CREATE TABLE room_aliases (
    alias text PRIMARY KEY,
    room_nid bigint NOT NULL,
    creator text NOT NULL,
    created_ts bigint NOT NULL
);
CREATE INDEX room_aliases_by_room ON room_aliases (room_nid);

CREATE TABLE published_rooms (
    room_nid bigint PRIMARY KEY,
    published_ts bigint NOT NULL
);
