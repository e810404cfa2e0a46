-- Whether a user has annotated an event with the same key before: one look per reaction that is sent.

CREATE INDEX events_annotations ON events (room_nid, relates_to, sender) WHERE rel_type = 'm.annotation';
