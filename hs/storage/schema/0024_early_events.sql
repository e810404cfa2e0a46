-- Events of other servers that came for a room while one of us was joining it. Their senders were told that we have
-- them, so they are here until the join has ended, one way or the other.
CREATE TABLE early_events (
    nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_id text NOT NULL,
    -- Who has sent them to us.
    origin text NOT NULL,
    -- A JSON array of PDUs, as they came.
    pdus bytea NOT NULL
);
