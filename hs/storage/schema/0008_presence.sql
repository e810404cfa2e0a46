-- What users were when it was last written down. What is newer is in memory: losing it in a crash hurts nobody.

CREATE TABLE presence (
    user_id text PRIMARY KEY,
    state text NOT NULL,
    status_msg text,
    -- 0: not known.
    last_active_ts bigint NOT NULL,
    -- When the state or the message last changed, as sync tokens count it.
    stream_id bigint NOT NULL
);
CREATE INDEX presence_by_stream ON presence (stream_id);
