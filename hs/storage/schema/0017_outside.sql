-- What users are told of rooms that nobody of this server is in: the stripped state that came with an invite
-- or a knock, as a JSON array of events.
CREATE TABLE stripped_states (
    user_id text NOT NULL,
    room_nid bigint NOT NULL,
    events bytea NOT NULL,
    PRIMARY KEY (user_id, room_nid)
);
