"""People of this server: who they are, how they prove it, and what they keep here.

    callers        who is behind a request, as every endpoint sees them
    passwords      argon2id, off the event loop
    management     another password, the end of an account
    moderation     accounts that an administrator suspends or locks
    devices        the devices of a user: listed, named, ended
    tokens         access tokens: issued, checked, refreshed, revoked; when devices were last seen
    openid         proofs for other services of who somebody is
    registration   new accounts
    login          passwords against accounts, devices into sessions
    login_tokens   letting another device of one's own in
    ui_auth        proving again who you are before something dangerous
    profiles       display names, avatars and other fields, of local users
    account_data   what clients store with us, and how others hear of changes
    filters        what clients want of a /sync, named by id
    push_rules     the rules a user has, changed one at a time
    overrides      limits of single users
    propagation    what a change of an account means for its rooms
    finishing      work that is done even if the client hangs up

Rules:
- No endpoint is known here: what clients send arrives checked for shape, not for sense.
- A password stays nowhere but in an open session of registration, which ends by itself; a token only as its hash;
  neither reaches a log.
- A failed login says the same, and takes as long, whether or not the user exists.

Answers to: client-server-api "Client Authentication", "User-Interactive Authentication API", "Login",
"Account registration and management", "Profiles", modules "Client Config" and "Push Notifications".
"""
