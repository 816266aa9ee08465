#!/usr/bin/env bash
# Times PostgreSQL's COPY of ROWS rows like those of a job queue: `postgres.sh copy_rows.sh ROWS ROUNDS` prints seconds,
# a line for each round.
set -euo pipefail

rows=$1 rounds=$2
psql=(psql -q -v ON_ERROR_STOP=1)
seq 0 $((rows - 1)) | awk '{ printf "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f5a6\t%d\tpending\t0\n", $1 }' >"$PGHOST/rows"
chmod a+r "$PGHOST/rows"
for _ in $(seq "$rounds"); do
    "${psql[@]}" -c 'DROP TABLE IF EXISTS task' -c 'CREATE TABLE task (job uuid, index int, state text, attempt int,
        PRIMARY KEY (job, index))' -c CHECKPOINT 2>/dev/null
    "${psql[@]}" -c '\timing on' -c "COPY task FROM '$PGHOST/rows'" | awk '/^Time:/ { print $2 / 1000 }'
done
