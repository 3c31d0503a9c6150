# Shared by the component scripts: where the cache is, and how something gets into it.
# shellcheck shell=bash
# Sourced, never run.

set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin   # depmod, where PATH is a plain user's

cache=$(realpath -m "${CPRSHARP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cprsharp}")

say() { printf '%s\n' "components: $*" >&2; }
die() { say "error: $*"; exit 1; }

# provide NAME COMMAND...
# Makes $cache/NAME exist, whole. COMMAND gets a fresh directory as its last argument and fills it; only a
# filled directory is renamed into place, so that whoever sees the name sees all of it. Callers that come
# at the same time wait for the one that builds.
provide() {
    local name=$1 work
    shift
    [ -d "$cache/$name" ] && return
    mkdir -p "$cache/.locks"
    exec {lock}>"$cache/.locks/$name"
    flock "$lock"
    if [ ! -d "$cache/$name" ]; then
        say "providing $name"
        rm -rf "$cache/.$name."*   # of one that was killed
        work=$(mktemp -d "$cache/.$name.XXXXXX")
        chmod 755 "$work"
        # shellcheck disable=SC2064  # the directory of now
        trap "rm -rf ${work@Q}" EXIT
        mkdir "$work/tree"
        "$@" "$work/tree"
        mv -T "$work/tree" "$cache/$name"
        rm -rf "$work"
        trap - EXIT
    fi
    exec {lock}>&-
}

apt_install() {
    [ "$(id -u)" = 0 ] || die "missing Debian packages: $*; install them, or run 'make deps' as root"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0)
    local attempt
    for attempt in {1..12}; do   # apt waits for dpkg's lock, but not for that of another update
        "${apt[@]}" update >&2 && break
        [ "$attempt" -lt 12 ] || die "apt-get update does not succeed"
        sleep 10
    done
    "${apt[@]}" install -y --no-install-recommends "$@" >&2
}

# need COMMAND=PACKAGE...: installs the packages whose command is not there.
need() {
    local pair missing=()
    for pair; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}
