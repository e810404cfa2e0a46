-- What users tell of themselves beyond a display name and an avatar, which are columns of users because
-- every member event needs them.

CREATE TABLE profile_fields (
    user_id text NOT NULL,
    field text NOT NULL,
    -- JSON as the client wrote it.
    value bytea NOT NULL,
    PRIMARY KEY (user_id, field)
);

-- Users whose rooms have yet to hear of a change of the account. A row goes when all of them have; what a
-- stop of the server interrupts is done after the next start.
CREATE TABLE untold_changes (
    user_id text PRIMARY KEY,
    -- 'profile': member events with the present names; 'departure': the user leaves.
    kind text NOT NULL,
    -- Counts changes, so that the end of telling an earlier one does not delete a later one.
    change bigint NOT NULL
);
