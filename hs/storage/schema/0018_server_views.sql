-- Finds the users of a server that a room has ever known: what servers may see of its history depends on them.

CREATE INDEX state_keys_by_server ON state_keys (room_nid, (substr(state_key, strpos(state_key, ':') + 1)), key_ix)
    WHERE type = 'm.room.member';
