"""The client-server API: one module for each section of the specification, one class of endpoints in each.

    versions, small_answers                         what this server is and has
    login, registration, account, devices, openid   accounts and sessions
    profile, account_data, tags, filters, push_rules   what users keep here
    rooms, upgrade, membership, send, typing, receipts   rooms: made, entered, filled
    directory, spaces                               rooms: found
    sync, old_sync, presence, notifications         what is new
    events_read, messages, relations, timestamps    what was said
    reports, moderation                             what administrators see and do

    compiled_filters                                filters of /sync, ready to be used
    member_events                                   m.room.member sent as state
    paths, own_user, room_params                    what several of them check in the same way

Rules:
- An endpoint checks what the types of its parameters cannot say, calls one service below, and shapes the
  answer. It decides nothing that another endpoint would have to decide again.
- Structs of bodies ignore keys they do not know: clients are newer or older than we are.
- `r0` is served wherever `v3` is: the same decorator has both paths.

Answers to: client-server-api, all of it by and by; data/api/client-server/*.yaml are the schemas.
"""
