-- What an event relates to, and whom it notifies: facts of the event itself, so that counts and threads are
-- one index away from it.

ALTER TABLE events
    -- The id of the event that m.relates_to names, known here or not, and how they are related.
    ADD COLUMN relates_to text,
    ADD COLUMN rel_type text,
    -- The root of the thread that the event is in; 0 is the main timeline.
    ADD COLUMN thread_nid bigint NOT NULL DEFAULT 0,
    -- What the default push rules do for those whom nothing in the event names: 0 nothing, 1 notify,
    -- 2 highlight. Users for whom it is something else have a row in push_exceptions.
    ADD COLUMN push smallint NOT NULL DEFAULT 0;

CREATE INDEX events_relations ON events (room_nid, relates_to, rel_type, stream_ordering)
    WHERE relates_to IS NOT NULL;
CREATE INDEX events_push ON events (room_nid, stream_ordering) WHERE push > 0;
