-- What other servers have not been sent yet. Nothing here is written for each event and server: what a server
-- lacks is worked out from how far it has come, who is in which room, and the newest of each room's events.

-- Finds the servers in a room, and whether a server is in it.
CREATE INDEX memberships_by_server ON memberships (room_nid, (substr(user_id, strpos(user_id, ':') + 1)))
    WHERE membership = 'join';

-- The rooms of a user of another server; those of ours are in local_memberships.
CREATE INDEX memberships_by_user ON memberships (user_id, room_nid) WHERE membership = 'join';

-- Up to where events are sent, or the servers that lack them are in outbound_behind. One row.
CREATE TABLE outbound_position (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    stream_ordering bigint NOT NULL
);

-- The newest event of each room that is ours to send, up to outbound_position.
CREATE TABLE outbound_rooms (
    room_nid bigint PRIMARY KEY,
    stream_ordering bigint NOT NULL,
    event_nid bigint NOT NULL
);
CREATE INDEX outbound_rooms_stream ON outbound_rooms (stream_ordering);

-- Servers that may lack events after `since`, a stream ordering.
CREATE TABLE outbound_behind (
    server_name text PRIMARY KEY,
    since bigint NOT NULL
);

-- Events for servers that are not in the room any more: kicks, bans and withdrawn invites of their users.
CREATE TABLE outbound_farewells (
    server_name text NOT NULL,
    stream_ordering bigint NOT NULL,
    room_nid bigint NOT NULL,
    event_nid bigint NOT NULL,
    PRIMARY KEY (server_name, stream_ordering)
);
