"""What this server pushes to others: events of our users, and what is only of the moment.

A commit becomes transactions like this:

    sender         hears of commits, in stream order, and works out which servers each event is for
    room_servers   the servers in a room, in memory for busy rooms
    deliveries     a queue for each server that something is under way to; who is sent to next; retries
    queues         what waits for one server, cut into transactions; pure
    transactions   the bytes of a transaction; pure
    catch_up       what a server has missed: the newest event of each room, newest room first
    progress       how far everybody has come, written down about once a second and not for each event
    ephemeral      typing, receipts and presence of our users
    stored_edus    EDUs that must arrive, in the database until they have

A server that does not answer has no queue. What it lacks is known by one number: from where on it may have
missed something. What was sent can be sent again after a crash; nothing is ever left out.

Spec: server-server-api "Transactions", "PDUs", "EDUs".
"""
