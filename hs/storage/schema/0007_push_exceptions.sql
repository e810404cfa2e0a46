-- For whom an event notifies otherwise than events.push says, and what users have read by writing themselves.

-- One row for each of our users and each event whose outcome differs from `base`: what events.push says, or
-- 0 for a user to whom the room is quiet. Both are 0 nothing, 1 notify, 2 highlight.
CREATE TABLE push_exceptions (
    user_id text NOT NULL,
    room_nid bigint NOT NULL,
    stream_ordering bigint NOT NULL,
    thread_nid bigint NOT NULL,
    base smallint NOT NULL,
    push smallint NOT NULL,
    PRIMARY KEY (user_id, room_nid, stream_ordering)
);
-- For redactions.
CREATE INDEX push_exceptions_by_event ON push_exceptions (room_nid, stream_ordering);

-- Rooms that a user's rules silence, all but mentions perhaps: events in (since, until] count for nothing but
-- by their exceptions. Without it each message would have a row for each such user.
CREATE TABLE push_quiet (
    user_id text NOT NULL,
    room_nid bigint NOT NULL,
    since bigint NOT NULL,
    until bigint,
    PRIMARY KEY (user_id, room_nid, since)
);

-- Whoever writes has read what came before it in that thread (0 is the main timeline). One row is changed by
-- each event: room for several versions of it on a page.
CREATE TABLE sent_positions (
    user_id text NOT NULL,
    room_nid bigint NOT NULL,
    thread_nid bigint NOT NULL,
    stream_ordering bigint NOT NULL,
    PRIMARY KEY (user_id, room_nid, thread_nid)
) WITH (fillfactor = 50);

-- When a user last joined a room: counts start there.
CREATE INDEX local_membership_changes_by_room ON local_membership_changes (user_id, room_nid, stream_ordering)
    INCLUDE (membership);

-- The few events that all who are in the room are to notice.
CREATE INDEX events_highlight ON events (room_nid, stream_ordering) WHERE push = 2;
