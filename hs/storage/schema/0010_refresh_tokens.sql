-- Access tokens that end by themselves, and what they are renewed with.

-- A device has at most two pairs of tokens: the one in use, and, after a refresh, a new one. The old pair goes
-- when the new one is first used; until then the refresh can be repeated, which replaces the new pair.
ALTER TABLE access_tokens
    -- Milliseconds since 1970; NULL for never.
    ADD COLUMN expires_ts bigint,
    ADD COLUMN is_new boolean NOT NULL DEFAULT false;

CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY,
    user_id text NOT NULL,
    device_id text NOT NULL,
    expires_ts bigint,
    is_new boolean NOT NULL DEFAULT false
);
CREATE INDEX refresh_tokens_device ON refresh_tokens (user_id, device_id);
