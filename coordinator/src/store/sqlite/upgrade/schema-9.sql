BEGIN TRANSACTION;
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
INSERT INTO "agent" VALUES('etl-1','etl','{"disk":"ssd"}',1500,3221225472,200,1,'{"licence":2}',12,'0.1.0','20.10.24','b1','online',3,NULL,NULL,'cordoned','new disk',NULL,60,'[{"id":"sha256:0808080808080808080808080808080808080808080808080808080808080808","images":["registry.example:5000/etl/analytics@sha256:0303030303030303030303030303030303030303030303030303030303030303","registry.example:5000/etl/analytics@sha256:0404040404040404040404040404040404040404040404040404040404040404"],"tags":["registry.example:5000/etl/analytics:latest"]}]');
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
    task_message   TEXT, spent_deaths INTEGER, quarantined  INTEGER, grown_memory INTEGER,
    PRIMARY KEY (job, idx, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "attempt" VALUES(X'00000000040000010000000000000001',0,1,'etl-1','registry.example:5000/etl/analytics@sha256:0303030303030303030303030303030303030303030303030303030303030303',41,10,20,'first',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,'running',NULL,NULL,0,0,0,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL);
CREATE TABLE channel (
    team       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    repository TEXT    NOT NULL,
    tag        TEXT    NOT NULL,
    current    INTEGER NOT NULL,         -- release.number
    previous   INTEGER,
    held_back  TEXT, policy     BLOB, unpromoted TEXT NOT NULL DEFAULT '[]', passed_over TEXT, warm_min INTEGER NOT NULL DEFAULT 0, warm_max INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (team, name)
) STRICT, WITHOUT ROWID;
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
, fence          INTEGER) STRICT;
INSERT INTO "job" VALUES(1,X'00000000040000010000000000000001',1,'default','load',10,1700000000001,1,'1-9',NULL,9,0,1,0,0,0,0,0,0,0,0,0,0,20,NULL,NULL,NULL,NULL,'',NULL);
INSERT INTO "job" VALUES(2,X'00000000040000020000000000000002',2,'default','load',10,1700000000002,1,'',NULL,0,0,0,0,0,0,0,10,0,0,0,0,0,NULL,30,'canceled',NULL,NULL,'',NULL);
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
INSERT INTO "job_body" VALUES(1,'default',NULL,NULL,'registry.example:5000/etl/analytics@sha256:0303030303030303030303030303030303030303030303030303030303030303',41,'00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01','{"owner":"data"}',X'0A046C6F61641209616E616C7974696373180220022A0A0A082F62696E2F656E763207707974686F6E3332022D63320B7072696E742827C3BC27293A130A044D4F4445120B66756C6C20226C6F616422420D0A056F776E65721204646174614A052F776F726B5209313030303A313030305A1B08DC0B10808080800C18C80120012A0B0A076C6963656E63651002620365746C6A0B0A046469736B1203737364720565746C2D3178F9FFFFFFFFFFFFFFFF01820102085A8A010908901C1080CAB5EE019201009A0118080210031A120801120808011080CAB5EE011A02083C2001A201020363A80102B201070A0363726D1004B80102C00101');
INSERT INTO "job_body" VALUES(2,'default','k',X'0909090909090909090909090909090909090909090909090909090909090909','registry.example:5000/etl/analytics@sha256:0303030303030303030303030303030303030303030303030303030303030303',41,'00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01','{"owner":"data"}',X'0A046C6F61641209616E616C7974696373180220022A0A0A082F62696E2F656E763207707974686F6E3332022D63320B7072696E742827C3BC27293A130A044D4F4445120B66756C6C20226C6F616422420D0A056F776E65721204646174614A052F776F726B5209313030303A313030305A1B08DC0B10808080800C18C80120012A0B0A076C6963656E63651002620365746C6A0B0A046469736B1203737364720565746C2D3178F9FFFFFFFFFFFFFFFF01820102085A8A010908901C1080CAB5EE019201009A0118080210031A120801120808011080CAB5EE011A02083C2001A201020363A80102B201070A0363726D1004B80102C00101');
CREATE TABLE job_digest (
    digest BLOB NOT NULL,                -- 32 bytes
    job    BLOB NOT NULL,                -- job.id
    PRIMARY KEY (digest, job)
) STRICT, WITHOUT ROWID;
INSERT INTO "job_digest" VALUES(X'0303030303030303030303030303030303030303030303030303030303030303',X'00000000040000010000000000000001');
CREATE TABLE meta (
    only    INTEGER PRIMARY KEY CHECK (only = 1),
    cluster BLOB    NOT NULL,
    term    INTEGER NOT NULL,
    rev     INTEGER NOT NULL
, backup_at      INTEGER, restored_at    INTEGER, restored_fence INTEGER, behind_at      INTEGER, behind_agent   TEXT, behind_term    INTEGER) STRICT;
INSERT INTO "meta" VALUES(1,X'71E76D9EF1624AEE9553C3263D81C018',7,1,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE release (
    team       TEXT    NOT NULL,
    channel    TEXT    NOT NULL,
    number     INTEGER NOT NULL,
    repository TEXT    NOT NULL,
    digest     TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    cause      TEXT    NOT NULL,
    reason     TEXT    NOT NULL, by         TEXT NOT NULL DEFAULT '', revision   TEXT NOT NULL DEFAULT '', created    TEXT NOT NULL DEFAULT '', policy BLOB,
    PRIMARY KEY (team, channel, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollout (
    team    TEXT    NOT NULL,
    channel TEXT    NOT NULL,
    release INTEGER NOT NULL,            -- release.number that it leads to
    ended   INTEGER,                     -- NULL: under way
    body    BLOB    NOT NULL,            -- muster.v1.Rollout
    PRIMARY KEY (team, channel, release)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_team ON job (team, id);
CREATE INDEX job_short ON job (short);
CREATE INDEX job_live ON job (id) WHERE ended IS NULL;
CREATE UNIQUE INDEX job_key ON job_body (team, key) WHERE key IS NOT NULL;
CREATE INDEX task_rev ON attempt (job, rev) WHERE rev IS NOT NULL;
CREATE UNIQUE INDEX rollout_active ON rollout (team, channel) WHERE ended IS NULL;
COMMIT;
