-- Which events were sent around a time: GET /timestamp_to_event.

CREATE INDEX events_timestamps ON events (room_nid, origin_server_ts);
