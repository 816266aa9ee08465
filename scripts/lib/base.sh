# Sourced by every script here: the cache directory, and how a script speaks.

cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/muster
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
mkdir -p "$cache"

say() { printf 'setup: %-12s %s\n' "$1" "$2"; }

die() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" = 0 ] || die "$1 needs root; run the same command as root, or do it yourself and run it again"
}

# Keeps the output of a long command in a file and shows it only when the command fails.
quietly() {
    local log=$cache/$1.log
    shift
    if ! "$@" >"$log" 2>&1 9>&-; then
        tail -n 30 "$log" >&2
        die "failed: $* (the whole output: $log)"
    fi
}

# Under systemd the init system starts and stops what packages bring.
has_systemd() { [ -d /run/systemd/system ]; }
