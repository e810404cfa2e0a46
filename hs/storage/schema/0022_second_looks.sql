-- Joins of users of other servers whose soft-failed messages are to be judged again: written with the join, deleted
-- when that is done. A user has no more of them than joins in that time.
CREATE TABLE second_looks (
    room_nid bigint NOT NULL,
    user_id text NOT NULL,
    -- Of the join.
    stream_ordering bigint NOT NULL,
    PRIMARY KEY (room_nid, user_id, stream_ordering)
);
