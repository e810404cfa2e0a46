-- How far users have read. One row per thread: '' is an unthreaded receipt, 'main' the main timeline, else
-- the id of the thread's root (and thread_nid its number; 0 for the other two).
CREATE TABLE receipts (
    room_nid bigint NOT NULL,
    user_id text NOT NULL,
    receipt_type text NOT NULL,
    thread_id text NOT NULL,
    thread_nid bigint NOT NULL,
    event_id text NOT NULL,
    -- The event's stream ordering: receipts never move backwards.
    position bigint NOT NULL,
    ts bigint NOT NULL,
    stream_id bigint NOT NULL,
    PRIMARY KEY (room_nid, user_id, receipt_type, thread_id)
);
CREATE INDEX receipts_stream ON receipts (room_nid, stream_id);
CREATE INDEX receipts_newest ON receipts (stream_id);
