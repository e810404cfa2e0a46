-- The messages of a thread, and those of all threads of a room, in the order of history: the latest of a
-- thread and the threads by their latest are one index away.

CREATE INDEX events_threads ON events (room_nid, relates_to, depth, stream_ordering) WHERE rel_type = 'm.thread';
CREATE INDEX events_threads_of_room ON events (room_nid, depth, stream_ordering) WHERE rel_type = 'm.thread';
