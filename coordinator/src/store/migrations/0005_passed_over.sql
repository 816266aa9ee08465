-- What a channel's tag meant when somebody started a rollout to something else; NULL: nothing to pass over.
ALTER TABLE channel ADD COLUMN passed_over TEXT;
