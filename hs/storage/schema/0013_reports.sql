-- What users report to the administrators, and proofs of who they are for other services.

-- A repeated report takes the place of the one before. What is not reported by itself is '': a report of
-- an event has room and event, one of a room the room, one of a user the user.
CREATE TABLE reports (
    report_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reporter text NOT NULL,
    room_id text NOT NULL DEFAULT '',
    event_id text NOT NULL DEFAULT '',
    user_id text NOT NULL DEFAULT '',
    reason text,
    received_ts bigint NOT NULL,
    UNIQUE (reporter, room_id, event_id, user_id)
);

CREATE TABLE openid_tokens (
    token_hash bytea PRIMARY KEY,
    user_id text NOT NULL,
    expires_ts bigint NOT NULL
);
CREATE INDEX openid_tokens_user ON openid_tokens (user_id, expires_ts);
