-- A store that was restored from a backup knows that it is an older copy. Times as everywhere.
ALTER TABLE meta ADD COLUMN backup_at      INTEGER;      -- in a backup: when it was made
ALTER TABLE meta ADD COLUMN restored_at    INTEGER;      -- NULL: not restored, or taken over since
ALTER TABLE meta ADD COLUMN restored_fence INTEGER;
ALTER TABLE meta ADD COLUMN behind_at      INTEGER;      -- NULL: no agent has seen a later term
ALTER TABLE meta ADD COLUMN behind_agent   TEXT;
ALTER TABLE meta ADD COLUMN behind_term    INTEGER;
-- Attempts of the job up to this number may exist without a row.
ALTER TABLE job  ADD COLUMN fence          INTEGER;
