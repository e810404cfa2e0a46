-- People of this server, their devices and the tokens that stand for them.

CREATE TABLE users (
    user_id text PRIMARY KEY,
    password_hash text,
    is_admin boolean NOT NULL DEFAULT false,
    is_deactivated boolean NOT NULL DEFAULT false,
    is_locked boolean NOT NULL DEFAULT false,
    is_suspended boolean NOT NULL DEFAULT false,
    display_name text,
    avatar_url text,
    created_ts bigint NOT NULL
);

CREATE TABLE devices (
    user_id text NOT NULL,
    device_id text NOT NULL,
    display_name text,
    last_seen_ts bigint,
    last_seen_ip text,
    PRIMARY KEY (user_id, device_id)
);

-- Only hashes: who reads the database cannot act for its users.
CREATE TABLE access_tokens (
    token_hash bytea PRIMARY KEY,
    user_id text NOT NULL,
    device_id text NOT NULL,
    created_ts bigint NOT NULL
);
CREATE INDEX access_tokens_device ON access_tokens (user_id, device_id);

-- Limits of single users instead of the configured ones; 0 or NULL switches the limits off for them.
CREATE TABLE ratelimit_override (
    user_id text PRIMARY KEY,
    messages_per_second bigint,
    burst_count bigint
);
