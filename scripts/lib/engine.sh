# The container engine: found where one answers, else Debian's, started here.

engine_version() { docker version --format '{{.Server.Version}}' 2>/dev/null; }

# Waits until the engine answers; the argument names its log for the message.
await_engine() {
    local deadline=$((SECONDS + 60))
    until engine_version >/dev/null; do
        if [ $SECONDS -ge $deadline ]; then
            tail -n 20 "$1" >&2 || true
            die "dockerd does not answer after 60 s; its log: $1"
        fi
        sleep 0.2
    done
}

# dockerd needs the cgroup file systems, which a machine without systemd may not have mounted.
mount_cgroups() {
    grep -q ' /sys/fs/cgroup' /proc/mounts && return
    need engine cgroupfs-mount:cgroupfs-mount
    cgroupfs-mount
    say engine "mounted the cgroup file systems"
}

start_engine() {
    need_root "starting dockerd"
    local log=$cache/dockerd.log
    if has_systemd; then
        systemctl start docker
    else
        mount_cgroups
        # A session of its own, so that Ctrl-C in make does not reach it; without the lock of setup.
        setsid dockerd >"$log" 2>&1 </dev/null 9>&- &
        echo $! >"$cache/dockerd.pid"
    fi
    await_engine "$log"
}

part_engine() {
    local version apparmor=()
    # With AppArmor in the kernel the engine cannot start a container without the parser.
    [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" != Y ] || apparmor=(apparmor_parser:apparmor)
    if version=$(engine_version); then
        say engine "docker $version answers"
        return
    fi
    need engine docker:docker.io dockerd:docker.io iptables:iptables "${apparmor[@]}"
    start_engine
    say engine "started docker $(engine_version)"
}
