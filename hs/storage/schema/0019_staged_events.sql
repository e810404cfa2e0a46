-- Events of other servers whose past is still being fetched. Their senders were told that we have them, so they
-- are here until they are in the room, or given up.
CREATE TABLE staged_events (
    room_nid bigint NOT NULL,
    event_id text NOT NULL,
    -- Who has sent it to us, and is asked first for what is before it.
    origin text NOT NULL,
    received_ts bigint NOT NULL,
    depth bigint NOT NULL,
    -- Its content hash was wrong: `pdu` is the redacted copy.
    redacted_for_hash boolean NOT NULL,
    failed_attempts integer NOT NULL DEFAULT 0,
    retry_ts bigint NOT NULL DEFAULT 0,
    pdu bytea NOT NULL,
    PRIMARY KEY (room_nid, event_id)
);
