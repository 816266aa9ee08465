# A Python environment outside the tree, for test data and for the mock of AWS.

venv=$cache/venv

make_venv() {
    [ -x "$venv/bin/pip" ] && return
    local python=python3
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages python3 python3-venv
        python=/usr/bin/python3
    fi
    quietly venv "$python" -m venv "$venv"
}

# pip_part PART REQUIREMENT...: installs unless exactly these were installed before.
pip_part() {
    local part=$1 stamp=$venv/.installed-$1
    shift
    if [ "$(cat "$stamp" 2>/dev/null)" = "$*" ]; then
        say "$part" "$* in $venv"
        return
    fi
    make_venv
    say "$part" "installing $* into $venv"
    quietly "pip-$part" "$venv/bin/pip" install --quiet "$@"
    echo "$*" >"$stamp"
}
