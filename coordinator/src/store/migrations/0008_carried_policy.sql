-- What the release's image carries for the channel's rollouts after its own, as a RolloutPolicy; NULL: nothing.
ALTER TABLE release ADD COLUMN policy BLOB;
