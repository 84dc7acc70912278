#!/bin/sh
# Runs every test of the repository on a Debian machine, from nothing.
set -u

usage() {
    cat <<'TEXT'
Usage: deploy/test.sh [--help]

Installs what Debian has and is missing (PostgreSQL 15, the stock pg_auto_failover
command line and extension, a C compiler), checks the Rust toolchain, runs all
tests of the workspace, those with real processes included, and ends with a summary.

It asks nothing, uses sudo when it is not run as root, and leaves PostgreSQL
clusters of this machine alone. As root the nodes run as user postgres.

Environment:
  PGQUORUM_TEST_THREADS  tests with real processes at the same time (1)
  CARGO_BUILD_JOBS       as always
TEXT
}

case "${1:-}" in
    '') ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 1 ;;
esac

cd "$(dirname "$0")/.." || exit 1
. deploy/lib.sh
exec </dev/null
# A test that cannot find what it needs shall fail, not skip itself.
CI=true
export CI

started=$(date +%s)
need_rust
need_packages build-essential iproute2 util-linux e2fsprogs strace python3-minimal openssl libfaketime postgresql-15 postgresql-client-15 pg-auto-failover-cli postgresql-15-auto-failover

log=$(mktemp "${TMPDIR:-/tmp}/pgquorum-test.XXXXXX") || die "cannot write to ${TMPDIR:-/tmp}"
trap 'rm -f "$log" "$log.status"' EXIT
failed=

# step NAME COMMAND...: runs it, keeps its output, notes whether it failed.
step() {
    name=$1
    shift
    say "== $name: $*"
    { "$@" 2>&1; echo $? >"$log.status"; } | tee -a "$log"
    [ "$(cat "$log.status")" = 0 ] || failed="$failed $name"
}

step build cargo test --workspace --locked --no-run
if [ -z "$failed" ]; then
    step unit cargo test --workspace --locked --no-fail-fast --exclude jepsen
    # Mistakes of the rules exist in builds of their own only.
    step mistakes cargo test -p failover --features mutants --locked --test model monitors_that
    # These drive clusters of real processes and measure time: few at once.
    step clusters cargo test -p jepsen --locked --no-fail-fast -- --test-threads="${PGQUORUM_TEST_THREADS:-1}"
    # The fault tests themselves: each mistake must be found. One of the scripts cuts the power of disks.
    if am_root; then
        step mutants cargo run -p jepsen --locked --bin jepsen -- mutants --out "${TMPDIR:-/tmp}/pgquorum-mutants"
    fi
fi

say
say "== summary"
awk '/^test result:/ { passed += $4; failures += $6; ignored += $8; suites++ }
     END { printf "%d tests passed, %d failed, %d ignored, in %d suites\n", passed, failures, ignored, suites }' "$log"
sed -n 's/^test \(.*\) \.\.\. FAILED$/  failed: \1/p' "$log"
say "$(($(date +%s) - started)) s"
if [ -n "$failed" ]; then
    say "FAILED:$failed"
    exit 1
fi
say "PASSED"
