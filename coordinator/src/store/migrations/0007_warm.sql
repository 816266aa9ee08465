-- How many containers wait for a channel's tasks on each agent.
ALTER TABLE channel ADD COLUMN warm_min INTEGER NOT NULL DEFAULT 0;
ALTER TABLE channel ADD COLUMN warm_max INTEGER NOT NULL DEFAULT 0;
