-- Events that we have asked others for in vain, and when: they are asked for again, less and less often. Those that
-- something we have builds on are in backward_extremities, too.
CREATE TABLE failed_pulls (
    room_nid bigint NOT NULL,
    event_id text NOT NULL,
    failed_attempts integer NOT NULL,
    last_attempt_ts bigint NOT NULL,
    PRIMARY KEY (room_nid, event_id)
);
CREATE INDEX failed_pulls_by_age ON failed_pulls (room_nid, last_attempt_ts);
