-- How a channel's tag is looked at; NULL: as all others.
ALTER TABLE channel ADD COLUMN poll        INTEGER;      -- span
ALTER TABLE channel ADD COLUMN credentials TEXT;         -- the name of a file of the operator, never a secret
