-- Of the task, like the columns from rev on; NULL in rows of older versions: none.
ALTER TABLE attempt ADD COLUMN spent_deaths INTEGER;
ALTER TABLE attempt ADD COLUMN quarantined  INTEGER;     -- 1: a pending task that waits for a person
