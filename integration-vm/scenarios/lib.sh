# Shared by the scenarios' scripts.
# shellcheck shell=bash
set -euo pipefail

fail() { echo "FAILED: $*" >&2; exit 1; }
# is WHAT ACTUAL EXPECTED
is() { [ "$2" = "$3" ] || fail "$1 is '$2', expected '$3'"; echo "ok: $1 is $2"; }
# holds WHAT COMMAND...
holds() { local what=$1; shift; "$@" || fail "$what"; echo "ok: $what"; }
