-- Rooms, their events and their state.
--
-- Text ids are interned once: event_nid and room_nid are our integers (never 0), key_ix is a dense
-- number per room for each (type, state_key) seen. Room-scoped tables carry room_nid first in the
-- primary key, user-scoped ones user_id, so that both can be distributed by that column. There are
-- no foreign keys between rooms.

-- Each value stands for a block of 1000 numbers: see hs.storage.streams.NidAllocator.
CREATE SEQUENCE room_nids INCREMENT BY 1000;
CREATE SEQUENCE event_nids INCREMENT BY 1000;
CREATE SEQUENCE state_node_ids INCREMENT BY 1000;

CREATE TABLE rooms (
    room_nid bigint PRIMARY KEY,
    room_id text NOT NULL UNIQUE,
    room_version text NOT NULL,
    -- Root of the current state's tree: the state after all forward extremities.
    state_id bigint NOT NULL DEFAULT 0,
    created_ts bigint NOT NULL
);

-- The order in which this database persisted events is the row's stream_ordering; backfilled history
-- counts downwards from 0, so that it never shows up as new.
CREATE TABLE events (
    room_nid bigint NOT NULL,
    event_nid bigint NOT NULL,
    event_id text NOT NULL,
    type text NOT NULL,
    state_key text,
    sender text NOT NULL,
    depth bigint NOT NULL,
    stream_ordering bigint NOT NULL,
    origin_server_ts bigint NOT NULL,
    -- Root of the state tree after this event; with key_ix and replaces_nid it gives the state before.
    state_id bigint NOT NULL,
    key_ix integer,
    replaces_nid bigint NOT NULL DEFAULT 0,
    redacts text,
    redacted_by_nid bigint NOT NULL DEFAULT 0,
    -- Bits: see hs.storage.events.Flag.
    flags integer NOT NULL DEFAULT 0,
    -- The auth rule that rejected or soft-failed the event, for operators who ask why.
    rule text,
    txn_device_id text,
    txn_id text,
    prev_nids bigint[] NOT NULL,
    PRIMARY KEY (room_nid, event_nid)
);
CREATE UNIQUE INDEX events_event_id ON events (event_id, room_nid);
CREATE INDEX events_timeline ON events (room_nid, stream_ordering);
CREATE INDEX events_topological ON events (room_nid, depth, stream_ordering);
CREATE INDEX events_stream ON events (stream_ordering);
CREATE INDEX events_nid ON events (event_nid);

-- The PDU's bytes, as `hs.storage.pdu_codec` wrote them: the first byte names the codec.
CREATE TABLE event_json (
    room_nid bigint NOT NULL,
    event_nid bigint NOT NULL,
    pdu bytea NOT NULL,
    PRIMARY KEY (room_nid, event_nid)
);
ALTER TABLE event_json ALTER COLUMN pdu SET STORAGE EXTERNAL;

CREATE TABLE event_edges (
    room_nid bigint NOT NULL,
    prev_nid bigint NOT NULL,
    event_nid bigint NOT NULL,
    PRIMARY KEY (room_nid, prev_nid, event_nid)
);

CREATE TABLE forward_extremities (
    room_nid bigint NOT NULL,
    event_nid bigint NOT NULL,
    PRIMARY KEY (room_nid, event_nid)
);

-- Events that others refer to and that we do not hold. The nid is theirs already, so that edges are
-- integers from the start; the event takes it over when it arrives.
CREATE TABLE backward_extremities (
    room_nid bigint NOT NULL,
    event_nid bigint NOT NULL,
    event_id text NOT NULL,
    failed_attempts integer NOT NULL DEFAULT 0,
    last_attempt_ts bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (room_nid, event_nid)
);
CREATE UNIQUE INDEX backward_extremities_event_id ON backward_extremities (event_id, room_nid);

CREATE TABLE redactions (
    room_nid bigint NOT NULL,
    redacts text NOT NULL,
    event_nid bigint NOT NULL,
    PRIMARY KEY (room_nid, redacts, event_nid)
);

-- State: one immutable tree key_ix -> event_nid, shared between all states of the room.
CREATE TABLE state_keys (
    room_nid bigint NOT NULL,
    key_ix integer NOT NULL,
    type text NOT NULL,
    state_key text NOT NULL,
    PRIMARY KEY (room_nid, key_ix)
);
CREATE UNIQUE INDEX state_keys_key ON state_keys (room_nid, type, state_key);

CREATE TABLE state_nodes (
    room_nid bigint NOT NULL,
    node_id bigint NOT NULL,
    blob bytea NOT NULL,
    PRIMARY KEY (room_nid, node_id)
);

-- What the auth rules and state resolution need of each state event, without its JSON.
CREATE TABLE auth_records (
    room_nid bigint NOT NULL,
    event_nid bigint NOT NULL,
    auth_nids bigint[] NOT NULL,
    record bytea NOT NULL,
    PRIMARY KEY (room_nid, event_nid)
);

CREATE TABLE current_state (
    room_nid bigint NOT NULL,
    type text NOT NULL,
    state_key text NOT NULL,
    key_ix integer NOT NULL,
    event_nid bigint NOT NULL,
    PRIMARY KEY (room_nid, type, state_key)
);

-- One row per change of the current state; event_nid is 0 where a key went away.
CREATE TABLE current_state_deltas (
    room_nid bigint NOT NULL,
    stream_ordering bigint NOT NULL,
    key_ix integer NOT NULL,
    event_nid bigint NOT NULL,
    replaced_nid bigint NOT NULL,
    -- Root of the current state's tree after the commit that made the change.
    state_id bigint NOT NULL,
    PRIMARY KEY (room_nid, stream_ordering, key_ix)
);

-- The current m.room.member of every user the room knows, ready for member lists.
CREATE TABLE memberships (
    room_nid bigint NOT NULL,
    user_id text NOT NULL,
    membership text NOT NULL,
    event_nid bigint NOT NULL,
    display_name text,
    avatar_url text,
    PRIMARY KEY (room_nid, user_id)
);
CREATE INDEX memberships_by_kind ON memberships (room_nid, membership);

-- The rooms of our own users.
CREATE TABLE local_memberships (
    user_id text NOT NULL,
    room_nid bigint NOT NULL,
    membership text NOT NULL,
    event_nid bigint NOT NULL,
    stream_ordering bigint NOT NULL,
    sender text NOT NULL,
    forgotten boolean NOT NULL DEFAULT false,
    PRIMARY KEY (user_id, room_nid)
);
CREATE INDEX local_memberships_by_room ON local_memberships (room_nid, membership);

CREATE TABLE local_membership_changes (
    user_id text NOT NULL,
    stream_ordering bigint NOT NULL,
    room_nid bigint NOT NULL,
    event_nid bigint NOT NULL,
    membership text NOT NULL,
    PRIMARY KEY (user_id, stream_ordering, room_nid)
);

-- Idempotence of the client's requests: what a transaction id of a device has led to.
CREATE TABLE event_transactions (
    user_id text NOT NULL,
    device_id text NOT NULL,
    room_nid bigint NOT NULL,
    txn_key text NOT NULL,
    event_nid bigint NOT NULL,
    event_id text NOT NULL,
    created_ts bigint NOT NULL,
    PRIMARY KEY (user_id, device_id, room_nid, txn_key)
);
CREATE INDEX event_transactions_age ON event_transactions (created_ts);
