"""Administration over HTTP: what existing tools of the ecosystem call under /_synapse/admin.

    register   accounts made by who knows the shared secret

These paths and shapes are a de-facto interface: scripts, bots and provisioning tools speak it, so they are
kept as those tools use them, and nothing beyond that is promised.

Rules:
- Served only on listeners whose `apis` have "admin".
- Endpoints for administrators say `auth=Auth.ADMIN`; the one that proves itself in another way (a MAC with
  the shared secret) says `Auth.NONE` and is off unless the secret is configured.
- Errors have the shape of the client-server API, with the same codes.

No part of the Matrix specification; what tools send is described at each endpoint.
"""
