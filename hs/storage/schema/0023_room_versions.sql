-- A room's version is proven once we have made the room, or have seen its create event, signed by who made it. Until
-- then it is what somebody has said who invites one of us or lets one of us knock, and the next one may say otherwise.
ALTER TABLE rooms ADD COLUMN is_version_proven boolean NOT NULL DEFAULT true;

UPDATE rooms r SET is_version_proven = false
WHERE NOT EXISTS (SELECT 1 FROM forward_extremities f WHERE f.room_nid = r.room_nid);

-- Of joins that failed: judged by a version that was not proven. Memberships (32: unjudged) stay.
DELETE FROM auth_records a USING rooms r WHERE a.room_nid = r.room_nid AND NOT r.is_version_proven;
DELETE FROM event_json j USING rooms r, events e
WHERE NOT r.is_version_proven AND e.room_nid = r.room_nid AND e.flags & 32 = 0
    AND j.room_nid = e.room_nid AND j.event_nid = e.event_nid;
DELETE FROM events e USING rooms r WHERE e.room_nid = r.room_nid AND NOT r.is_version_proven AND e.flags & 32 = 0;
