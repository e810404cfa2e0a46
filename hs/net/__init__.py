"""Other servers, from here: how they are found, asked, believed and left alone when they do not answer.

    addresses          networks that nobody leads us into
    resolver           names to addresses and services, remembered
    well_known         where servers say that they are elsewhere
    discovery          server names to places to connect to
    client             the one HTTP client for everything outside
    server_http        one request to a server by its name; answers decoded
    errors             why a server could not be asked, or would not answer
    own_keys           what this server publishes about its own keys
    server_keys        keys of other servers: memory, database, the server itself, notaries
    key_fetcher        the requests that get them
    notary             what we answer about the keys of others
    request_check      whose signature a request to us has
    fetch_budget       how much a stranger may have us ask others
    federation_client  signed requests, answers decoded and bounded
    room_client        what we ask about rooms
    backoff            servers that do not answer, and when to ask again

Rules:
- Every answer is bounded in size, depth and time, and decoded into a declared type.
- What strangers can make us do costs us no more than it costs them: single-flight, budgets, negative caches.
- Nothing is kept in memory for a server that nobody talks to.
- Storage is a sibling: what must be kept is asked for as a Protocol here and handed in.

Answers to: server-server-api "Resolving server names", "Retrieving server keys", "Request Authentication".
"""
