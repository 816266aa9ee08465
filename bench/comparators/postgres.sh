#!/usr/bin/env bash
# `postgres.sh COMMAND...` runs a command beside a PostgreSQL of its own with its default settings (so each commit is
# synced) in a temporary directory. PGHOST and PGUSER tell the command where it is.
set -euo pipefail

bin=$(dirname "$(readlink -f "$(command -v initdb || ls -d /usr/lib/postgresql/*/bin/initdb | tail -n 1)")")
dir=$(mktemp -d)
as=()
# The server refuses to run as root.
if [ "$(id -u)" = 0 ]; then
    chown postgres "$dir"
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
here=$PWD
cd "$dir"
stop() {
    "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$dir"
}
trap stop EXIT

"${as[@]}" "$bin/initdb" -D "$dir/data" -A trust -U postgres >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
"${as[@]}" "$bin/pg_ctl" -D "$dir/data" -o "-c listen_addresses='' -k $dir" -l "$dir/server.log" -w start >/dev/null
(cd "$here" && PGHOST=$dir PGUSER=postgres "$@")
