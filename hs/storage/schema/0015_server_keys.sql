-- What other servers have told us: the keys they sign with, and how often they did not answer at all.

CREATE TABLE server_keys (
    server_name text NOT NULL,
    key_id text NOT NULL,
    verify_key bytea NOT NULL,
    -- For an old key since when it does not sign any more, else until when the server stands by it.
    valid_until_ts bigint NOT NULL,
    is_old boolean NOT NULL,
    -- Whether the server itself has told us, or somebody else.
    is_direct boolean NOT NULL,
    fetched_ts bigint NOT NULL,
    PRIMARY KEY (server_name, key_id)
);

-- The newest answer of each server, as it has signed it: what we hand on as a notary.
CREATE TABLE server_key_answers (
    server_name text PRIMARY KEY,
    body bytea NOT NULL,
    valid_until_ts bigint NOT NULL,
    fetched_ts bigint NOT NULL,
    is_direct boolean NOT NULL
);

-- Only servers that did not answer when they were asked last.
CREATE TABLE destinations (
    server_name text PRIMARY KEY,
    failures integer NOT NULL,
    -- When it failed first and last, and when it may be asked again.
    failing_since_ts bigint NOT NULL,
    failed_ts bigint NOT NULL,
    retry_ts bigint NOT NULL
);
CREATE INDEX destinations_retry ON destinations (retry_ts);
