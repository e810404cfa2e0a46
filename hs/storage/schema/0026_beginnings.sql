-- The depth of the join by which this server came into the room last. Events that lie below it have happened before, and
-- are no news, whenever they come.
ALTER TABLE rooms ADD COLUMN begins_at_depth bigint NOT NULL DEFAULT 0;
