-- How channels get from release to release. Times as everywhere.
ALTER TABLE channel ADD COLUMN policy     BLOB;                          -- muster.v1.RolloutPolicy; NULL: none
ALTER TABLE channel ADD COLUMN unpromoted TEXT NOT NULL DEFAULT '[]';    -- JSON array of release.number
ALTER TABLE release ADD COLUMN by         TEXT NOT NULL DEFAULT '';
ALTER TABLE release ADD COLUMN revision   TEXT NOT NULL DEFAULT '';
ALTER TABLE release ADD COLUMN created    TEXT NOT NULL DEFAULT '';
CREATE TABLE rollout (
    team    TEXT    NOT NULL,
    channel TEXT    NOT NULL,
    release INTEGER NOT NULL,            -- release.number that it leads to
    ended   INTEGER,                     -- NULL: under way
    body    BLOB    NOT NULL,            -- muster.v1.Rollout
    PRIMARY KEY (team, channel, release)
) STRICT, WITHOUT ROWID;
-- At most one for each channel.
CREATE UNIQUE INDEX rollout_active ON rollout (team, channel) WHERE ended IS NULL;
