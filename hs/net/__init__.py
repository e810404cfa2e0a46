"""Other servers, from here: how they are found, asked, believed and left alone when they do not answer.

    own_keys           what this server publishes about its own keys
    server_keys        keys of other servers: memory, database, the server itself, notaries
    key_fetcher        the requests that get them
    notary             what we answer about the keys of others
    request_check      whose signature a request to us has
    fetch_budget       how much a stranger may have us ask others
    federation_client  signed requests, answers decoded and bounded
    backoff            servers that do not answer, and when to ask again

Rules:
- Every answer is bounded in size, depth and time, and decoded into a declared type.
- What strangers can make us do costs us no more than it costs them: single-flight, budgets, negative caches.
- Nothing is kept in memory for a server that nobody talks to.
- Storage is a sibling: what must be kept is asked for as a Protocol here and handed in.

Answers to: server-server-api "Retrieving server keys", "Request Authentication".
"""
