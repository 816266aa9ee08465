# Installing Debian packages without letting them start daemons.

policy=/usr/sbin/policy-rc.d
denied=

# A package's own service would take a fixed port and outlive the tests. Debian asks policy-rc.d before
# any start; one that is there already is somebody else's decision and is left alone.
deny_starts() {
    [ -e "$policy" ] && return
    trap allow_starts EXIT
    denied=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

allow_starts() {
    [ -z "$denied" ] || rm -f "$policy"
    denied=
}

install_packages() {
    need_root "installing $*"
    deny_starts
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@")
    # The package lists may be absent or old; only then is fetching them worth the time.
    if ! "${install[@]}" >"$cache/apt.log" 2>&1 9>&-; then
        quietly apt-update apt-get update
        quietly apt "${install[@]}"
    fi
    allow_starts
}

# need PART COMMAND:PACKAGE...: installs the packages whose command is missing.
need() {
    local part=$1 missing=() pair
    shift
    for pair in "$@"; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null && continue
        [[ " ${missing[*]} " == *" ${pair#*:} "* ]] || missing+=("${pair#*:}")
    done
    if [ ${#missing[@]} = 0 ]; then
        return
    fi
    say "$part" "installing ${missing[*]}"
    install_packages "${missing[@]}"
}

# A unit that was enabled by the install would start at the next boot.
disable_units() {
    has_systemd || return 0
    local unit
    for unit in "$@"; do
        if systemctl is-enabled --quiet "$unit" 2>/dev/null; then
            systemctl disable --quiet --now "$unit"
            say services "disabled the unit $unit: demo and tests start their own on free ports"
        fi
    done
}
