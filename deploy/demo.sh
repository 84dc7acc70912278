#!/bin/sh
# Sets up what `pgquorum demo` needs, and runs it.
set -u

usage() {
    cat <<'TEXT'
Usage: deploy/demo.sh [--keep] [--stock-nodes] [--port PORT] [--directory DIR]
       deploy/demo.sh --stop --directory DIR
       deploy/demo.sh --help

A failover on this machine: three monitors and three PostgreSQL nodes come up on
free loopback ports, a client writes, the monitor that leads is killed, then the
primary; you see what happens, how long writes failed, and that no acknowledged
row is lost. Then the dead come back.

It installs what is missing from Debian (with sudo when it is not run as root),
builds pgquorum, and runs `pgquorum demo`. It asks nothing. Everything is
stopped and removed at the end and after Ctrl-C.

  --keep           leave the cluster running, and print how to look around
  --stock-nodes    nodes under stock pg_autoctl 2.0 instead of pgquorum's keeper
  --port PORT      first of the ports to use (default: free ones)
  --directory DIR  directory to make for it (default: a new one in /tmp)
  --stop           stop and remove what --keep left in DIR

Environment:
  PGQUORUM_BIN      a pgquorum binary to use instead of building one
  CARGO_TARGET_DIR  where to build, as always
TEXT
}

stock=
for argument in "$@"; do
    case "$argument" in
        -h | --help) usage; exit 0 ;;
        --stock-nodes) stock=pg-auto-failover-cli ;;
        --keep | --stop | --port | --port=* | --directory | --directory=*) ;;
        -*) usage >&2; exit 1 ;;
    esac
done

here=$(pwd)
cd "$(dirname "$0")/.." || exit 1
. deploy/lib.sh

# Before anything is installed: this one is for the reader to do.
[ -n "${PGQUORUM_BIN:-}" ] || need_rust
# shellcheck disable=SC2086 # nothing, or one name
need_packages postgresql-15 $stock
if [ -n "${PGQUORUM_BIN:-}" ]; then
    binary=$(cd "$here" && realpath -e -- "$PGQUORUM_BIN" 2>/dev/null) && [ -x "$binary" ] ||
        die "PGQUORUM_BIN=$PGQUORUM_BIN is not executable"
else
    need_packages build-essential
    target=${CARGO_TARGET_DIR:-target}
    mkdir -p "$target" 2>/dev/null && [ -w "$target" ] ||
        die "cannot build in $target: it belongs to somebody else; set CARGO_TARGET_DIR to a directory of yours"
    say "building pgquorum (the first time takes minutes)"
    cargo build --locked --quiet -p pgquorum || die "cargo build failed"
    binary=$(realpath -- "$target/debug/pgquorum")
fi
cd "$here" || exit 1
exec "$binary" demo "$@"
