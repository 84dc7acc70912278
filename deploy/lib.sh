#!/bin/sh
# Shared by demo.sh and test.sh: what must be installed. Sourced, not run.

say() { printf '%s\n' "$*"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

am_root() { [ "$(id -u)" = 0 ]; }

# Runs a command as root: directly, or through sudo without a question where nobody can answer.
as_root() {
    if am_root; then
        "$@"
    elif ! command -v sudo >/dev/null 2>&1; then
        die "missing packages need root or sudo to install: apt-get install $NEEDED"
    elif [ "${CI:-}" = true ]; then
        sudo -n "$@"
    else
        sudo "$@"
    fi
}

# The directory of the newest PostgreSQL server that Debian installed.
postgres_bindir() {
    for dir in /usr/lib/postgresql/*/bin; do
        [ -x "$dir/postgres" ] && printf '%s %s\n' "$(basename "$(dirname "$dir")")" "$dir"
    done | sort -n | tail -n 1 | cut -d ' ' -f 2-
}

# need_packages PACKAGE...: installs those that are not there.
need_packages() {
    NEEDED=
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || NEEDED="$NEEDED $package"
    done
    NEEDED=${NEEDED# }
    [ -n "$NEEDED" ] || return 0
    command -v apt-get >/dev/null 2>&1 || die "please install $NEEDED: this machine has no apt-get"
    say "installing $NEEDED"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq ||
        die "apt-get update failed"
    # Word splitting is wanted: a list of names.
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $NEEDED >/dev/null ||
        die "apt-get install $NEEDED failed"
}

# The Rust toolchain that Cargo.toml asks for, or one line about how to get it.
need_rust() {
    if ! command -v cargo >/dev/null 2>&1 && [ -x "${HOME:-}/.cargo/bin/cargo" ]; then
        PATH="$HOME/.cargo/bin:$PATH"
        export PATH
    fi
    wanted=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' Cargo.toml)
    hint="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
    command -v curl >/dev/null 2>&1 || hint="apt-get install -y curl ca-certificates && $hint"
    hint="get it with: $hint"
    command -v cargo >/dev/null 2>&1 || die "Rust $wanted or newer is missing; $hint"
    present=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p')
    [ -n "$present" ] || die "rustc does not run; $hint"
    older=$(printf '%s\n%s\n' "$wanted" "$present" | sort -V | head -n 1)
    [ "$older" = "$wanted" ] || die "Rust $present is too old, $wanted or newer is needed; $hint"
}
