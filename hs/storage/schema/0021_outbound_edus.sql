-- EDUs that must arrive: written with what caused them, deleted when the server has them. `edu_id` is their order.
CREATE SEQUENCE outbound_edu_ids;
CREATE TABLE outbound_edus (
    server_name text NOT NULL,
    edu_id bigint NOT NULL,
    edu bytea NOT NULL,
    PRIMARY KEY (server_name, edu_id)
);
