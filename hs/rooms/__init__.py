"""The one writer of rooms: every event that enters a room passes its lane, and only there.

    client_api / federation_api
        | submit(job)
    writer      queues jobs per room, one worker per busy room
        |       `async with lane.turn(room)`: jobs that queued up meanwhile are one batch
    stage       the batch's working copy: build, judge by auth events and state, place
        |
    commit      one transaction: events, edges, extremities, state nodes, current state, members
        |
    on_commit   after COMMIT, in stream order: event cache, notifier, and what else is plugged in

Rules:
- Judged is judged in the lane: an event is measured against what that lane has committed or staged
  before it, never against a cache that may lag behind.
- A context is ids only: the state of an event is the root of a shared tree, never a map.
- A job that fails takes back what it staged; a batch that fails commits nothing.
- Who waits for an answer may go away at any moment; the worker finishes what it began.

Answers to: server-server-api "PDUs" and "Authorization rules", rooms/v1 to v12, and the
client-server-api "Rooms" and "Sending events to a room".
"""
