-- What users keep on the server for their clients.

CREATE TABLE filters (
    user_id text NOT NULL,
    filter_id bigint NOT NULL,
    filter_json bytea NOT NULL,
    PRIMARY KEY (user_id, filter_id)
);
CREATE UNIQUE INDEX filters_json ON filters (user_id, md5(filter_json));

-- room_id is '' for what belongs to the user as a whole. Push rules are the type m.push_rules.
CREATE TABLE account_data (
    user_id text NOT NULL,
    room_id text NOT NULL,
    type text NOT NULL,
    content bytea NOT NULL,
    stream_id bigint NOT NULL,
    PRIMARY KEY (user_id, room_id, type)
);
CREATE INDEX account_data_stream ON account_data (user_id, stream_id);
CREATE INDEX account_data_newest ON account_data (stream_id);
