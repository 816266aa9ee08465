-- The first schema. Times are milliseconds since the Unix epoch in UTC, spans are milliseconds.
-- Words (states, outcomes, reasons) are the ones people see. `rev` is the revision of the commit that
-- last touched the row.

CREATE TABLE meta (
    only    INTEGER PRIMARY KEY CHECK (only = 1),
    cluster BLOB    NOT NULL,
    term    INTEGER NOT NULL,
    rev     INTEGER NOT NULL
) STRICT;

-- What changes about a job, and what lists filter by. Rows stay small, because every commit that touches
-- a job rewrites its row; what never changes and may be long is in job_body.
CREATE TABLE job (
    seq           INTEGER PRIMARY KEY,   -- order of submission
    id            BLOB    NOT NULL UNIQUE,
    short         INTEGER NOT NULL,      -- the last 40 bits of the id: the eight characters people type
    team          TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    array         INTEGER NOT NULL,
    created       INTEGER NOT NULL,
    rev           INTEGER NOT NULL,
    unstarted     TEXT    NOT NULL,      -- ranges: 0-9,12
    withdrawn     TEXT,                  -- JSON; NULL: none
    pending       INTEGER NOT NULL,
    preparing     INTEGER NOT NULL,
    running       INTEGER NOT NULL,
    succeeded     INTEGER NOT NULL,
    failed        INTEGER NOT NULL,
    oom           INTEGER NOT NULL,
    timeout       INTEGER NOT NULL,
    canceled      INTEGER NOT NULL,
    lost          INTEGER NOT NULL,
    preempted     INTEGER NOT NULL,
    image_error   INTEGER NOT NULL,
    infra_error   INTEGER NOT NULL,
    retries       INTEGER NOT NULL,
    started       INTEGER,
    ended         INTEGER,
    outcome       TEXT,                  -- the worst end among its tasks, once the job has ended
    cancel_reason TEXT,
    cancel_at     INTEGER,
    canceling     TEXT    NOT NULL      -- ranges: held tasks whose cancel was asked for one by one
) STRICT;
CREATE INDEX job_team ON job (team, id);
CREATE INDEX job_short ON job (short);
CREATE INDEX job_live ON job (id) WHERE ended IS NULL;

CREATE TABLE job_body (
    job         INTEGER PRIMARY KEY,     -- job.seq
    team        TEXT NOT NULL,
    key         TEXT,
    key_body    BLOB,                    -- SHA-256 of what was submitted under the key
    pinned      TEXT,
    release     INTEGER,
    traceparent TEXT,
    labels      TEXT NOT NULL,           -- JSON object
    spec        BLOB NOT NULL            -- muster.v1.JobSpec with every default filled in
) STRICT;
CREATE UNIQUE INDEX job_key ON job_body (team, key) WHERE key IS NOT NULL;

-- One row for each attempt. How the task itself stands is on the row of its newest attempt, and `state` and
-- `rev` are NULL on the older ones: most tasks have one attempt, so a task costs one row and one write for
-- each step instead of two.
CREATE TABLE attempt (
    job            BLOB    NOT NULL,
    idx            INTEGER NOT NULL,
    number         INTEGER NOT NULL,
    agent          TEXT    NOT NULL,
    image          TEXT    NOT NULL,
    release        INTEGER,
    assigned       INTEGER NOT NULL,
    started        INTEGER,
    because        TEXT    NOT NULL,     -- first, user 1/3, infra 2/3, free
    ended          INTEGER,
    outcome        TEXT,
    exit_code      INTEGER,
    reason         TEXT,
    message        TEXT,
    peak_memory    INTEGER,              -- bytes
    cpu_micros     INTEGER,
    pull           INTEGER,
    start          INTEGER,
    run            INTEGER,
    late           TEXT,                 -- JSON: a report that came after the attempt was superseded
    rev            INTEGER,
    state          TEXT,
    not_before     INTEGER,              -- of a pending task
    budget         TEXT,                 -- what pays for its next attempt: user, infra, free
    spent_user     INTEGER,
    spent_infra    INTEGER,
    spent_free     INTEGER,
    task_ended     INTEGER,
    task_outcome   TEXT,
    task_exit_code INTEGER,
    task_reason    TEXT,
    task_message   TEXT,
    PRIMARY KEY (job, idx, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_rev ON attempt (job, rev) WHERE rev IS NOT NULL;

CREATE TABLE agent (
    id           TEXT    PRIMARY KEY,
    pool         TEXT    NOT NULL,
    labels       TEXT    NOT NULL,       -- JSON object
    cpu_millis   INTEGER NOT NULL,
    memory_bytes INTEGER NOT NULL,
    pids         INTEGER NOT NULL,
    gpus         INTEGER NOT NULL,
    custom       TEXT    NOT NULL,       -- JSON object
    places       INTEGER NOT NULL,
    version      TEXT    NOT NULL,
    engine       TEXT    NOT NULL,
    boot_id      TEXT    NOT NULL,
    link         TEXT    NOT NULL,       -- online, unreachable, lost
    session      INTEGER,                -- of link online
    since        INTEGER,                -- of the other links
    lost_at      INTEGER,                -- of link unreachable
    schedulable  TEXT    NOT NULL,       -- yes, cordoned, draining
    reason       TEXT,
    deadline     INTEGER,
    last_contact INTEGER NOT NULL,
    held         TEXT    NOT NULL        -- JSON
) STRICT, WITHOUT ROWID;

CREATE TABLE channel (
    team       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    repository TEXT    NOT NULL,
    tag        TEXT    NOT NULL,
    current    INTEGER NOT NULL,         -- release.number
    previous   INTEGER,
    held_back  TEXT,
    PRIMARY KEY (team, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE release (
    team       TEXT    NOT NULL,
    channel    TEXT    NOT NULL,
    number     INTEGER NOT NULL,
    repository TEXT    NOT NULL,
    digest     TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    cause      TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    PRIMARY KEY (team, channel, number)
) STRICT, WITHOUT ROWID;
