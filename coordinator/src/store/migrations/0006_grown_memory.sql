-- Of the task, like the columns from rev on: what its attempts ask for since a retry rule let it grow, in bytes; NULL:
-- what the job asks for.
ALTER TABLE attempt ADD COLUMN grown_memory INTEGER;
