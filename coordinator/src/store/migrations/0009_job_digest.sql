-- Which jobs have attempts on an image, by its digest. Most jobs have one row here, however many attempts they have.
CREATE TABLE job_digest (
    digest BLOB NOT NULL,                -- 32 bytes
    job    BLOB NOT NULL,                -- job.id
    PRIMARY KEY (digest, job)
) STRICT, WITHOUT ROWID;
-- An image's text ends with the digits of its digest.
INSERT INTO job_digest SELECT DISTINCT unhex(substr(image, -64)), job FROM attempt;
