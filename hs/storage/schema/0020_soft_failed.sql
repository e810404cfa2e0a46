-- Soft-failed messages of a user: they are judged again when the join that they cite comes to count. There are few.
CREATE INDEX events_soft_failed ON events (room_nid, sender) WHERE flags & 4 <> 0 AND state_key IS NULL;
