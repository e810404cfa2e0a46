# What `state_res` uses of this kernel without going through Python.

cdef enum Kind:
    OTHER = 0
    CREATE = 1
    MEMBER = 2
    POWER_LEVELS = 3
    JOIN_RULES = 4
    THIRD_PARTY_INVITE = 5

cdef enum Membership:
    UNKNOWN = 0
    JOIN = 1
    INVITE = 2
    LEAVE = 3
    BAN = 4
    KNOCK = 5
    NONE = 255

cdef class AuthRecord:
    cdef readonly long long nid
    cdef readonly long long origin_server_ts
    cdef readonly long long depth
    cdef readonly unsigned long long prev_mark
    cdef readonly str event_id
    cdef readonly str type
    cdef readonly str state_key
    cdef readonly str sender
    cdef readonly str room_id
    cdef readonly str redacts
    cdef readonly str authoriser
    cdef readonly tuple auth_nids
    cdef readonly dict payload
    cdef readonly bint rejected
    cdef readonly bint has_prev_events
    cdef unsigned char kind
    cdef unsigned char membership_code

# The state as one event's rules see it: a slot for each key that they can look at.
cdef class View:
    cdef AuthRecord create
    cdef AuthRecord power
    cdef AuthRecord join_rules
    cdef AuthRecord sender
    cdef AuthRecord target
    cdef AuthRecord token
    cdef AuthRecord authoriser

cdef object judge(int version, AuthRecord record, View view, object verify_signed)
cdef object level_of_user(int version, str user_id, AuthRecord create, AuthRecord power)
cdef str token_of(AuthRecord record)
