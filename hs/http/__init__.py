"""HTTP: from the bytes of a request to one call of a service, and back.

    endpoint     @endpoint: path, method, who may call, which limit, and the schema by annotation
    router       raw path -> endpoint, segment by segment
    app          authentication, limits, decoding, errors as JSON, CORS
    rate_limit   token buckets by user or address
    listeners    sockets, TLS, which APIs are served where

Rules:
- Every endpoint states its auth and its limit; a declaration that leaves one out does not import.
- Bodies and queries are decoded into declared types here; past this floor nobody asks what a field is.
- An error is an exception of `hs.matrix.errors` and becomes JSON here, in one place. Anything else is a
  500 M_UNKNOWN with a request id, and the traceback in the log.
- Tokens and query strings are never logged.

Answers to: client-server-api "API Standards", "Client Authentication", "Web Browser Clients", "Rate
limiting".
"""
