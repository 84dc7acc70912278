#!/bin/sh
# Three monitors, three PostgreSQL nodes, two murders: a failover on one machine.
set -u

usage() {
    cat <<'TEXT'
Usage: deploy/demo.sh [--keep] [--help]

Builds pgquorum, starts three monitors and three PostgreSQL nodes under the stock
pg_autoctl 2.0 on free loopback ports in a temporary directory, and writes rows all
the while. Then it kills -9 the monitor that leads, and after it the primary node,
keeper and PostgreSQL together; shows the failover as it happens and how long writes
failed, counts acknowledged rows that were lost, and lets the dead ones come back.

Missing Debian packages are installed (with sudo when not root). Everything is
stopped and removed at the end and after Ctrl-C.

  --keep   leave the cluster running and print how to look around

Environment:
  PGQUORUM_BIN   a pgquorum binary to use instead of building one
TEXT
}

keep=
for argument in "$@"; do
    case "$argument" in
        --keep) keep=yes ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 1 ;;
    esac
done

cd "$(dirname "$0")/.." || exit 1
. deploy/lib.sh

# --- what it takes -----------------------------------------------------------------------------

need_packages postgresql-15 postgresql-client-15 pg-auto-failover-cli
bindir=$(postgres_bindir)
[ -n "$bindir" ] || die "no PostgreSQL server below /usr/lib/postgresql"
if [ -n "${PGQUORUM_BIN:-}" ]; then
    binary=$PGQUORUM_BIN
    [ -x "$binary" ] || die "PGQUORUM_BIN=$binary is not executable"
else
    need_packages build-essential
    need_rust
    say "building pgquorum (a debug build: it is there sooner)"
    cargo build --locked --quiet -p pgquorum || die "cargo build failed"
    binary=${CARGO_TARGET_DIR:-target}/debug/pgquorum
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/pgquorum-demo.XXXXXX") || die "cannot write to ${TMPDIR:-/tmp}"
chmod 755 "$dir"
# A copy that the nodes' user can run, wherever the sources lie.
cp "$binary" "$dir/pgquorum" && chmod 755 "$dir/pgquorum" || die "cannot copy $binary to $dir"
mkdir "$dir/log" "$dir/xdg"

# PostgreSQL refuses to run as root: then everything runs as the user of Debian's package.
user=$(id -un)
if am_root; then
    user=postgres
    id postgres >/dev/null 2>&1 || die "there is no user postgres to run the nodes as"
    chown -R postgres "$dir"
fi

clean_env() {
    env -i HOME="$dir" USER="$user" LC_ALL=C.UTF-8 PATH="$bindir:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" \
        ${TZ:+"TZ=$TZ"} \
        XDG_CONFIG_HOME="$dir/xdg/config" XDG_DATA_HOME="$dir/xdg/data" XDG_RUNTIME_DIR="$dir/xdg/run" "$@"
}

# A command as the nodes' user, in a directory that this user may enter.
as_user() {
    if am_root; then
        (cd "$dir" && clean_env runuser -u postgres -- "$@")
    else
        (cd "$dir" && clean_env "$@")
    fi
}

# As the application: pg_autoctl must not see these variables.
app() { as_user env PGUSER=app PGCONNECT_TIMEOUT=2 "$@"; }

# When a process started, in clock ticks: with its number, that names it for good. Numbers are used again.
born() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }

# background NAME COMMAND...: a service; its number goes to $dir/NAME.pid, its output to a log.
background() {
    name=$1
    shift
    as_user "$@" >>"$dir/log/$name" 2>&1 </dev/null &
    echo "$! $(born $!)" >"$dir/$name.pid"
}

# Process numbers with those of all their descendants.
tree() {
    cat /proc/[0-9]*/status 2>/dev/null | awk -v roots="$*" '
        /^Pid:/ { pid = $2 }
        /^PPid:/ { parent[pid] = $2 }
        END {
            count = split(roots, root, " ")
            for (i = 1; i <= count; i++) wanted[root[i]] = 1
            do {
                more = 0
                for (pid in parent) if (!(pid in wanted) && (parent[pid] in wanted)) { wanted[pid] = 1; more = 1 }
            } while (more)
            for (pid in wanted) printf "%s ", pid
        }'
}

# kill -9 a service with everything below it, all in one instant; nothing if it is gone already.
murder() {
    read -r root birth <"$dir/$1.pid"
    rm -f "$dir/$1.pid"
    [ -n "$birth" ] && [ "$(born "$root")" = "$birth" ] || return 0
    victims=$(tree "$root")
    # Word splitting is wanted: a list of numbers.
    # shellcheck disable=SC2086
    kill -STOP $victims 2>/dev/null
    # shellcheck disable=SC2086
    kill -KILL $victims 2>/dev/null
}

cleanup() {
    status=$?
    trap - EXIT INT TERM
    touch "$dir/stop-writing" 2>/dev/null
    if [ "$keep" = yes ] && [ "$status" = 0 ]; then
        exit 0
    fi
    for file in "$dir"/*.pid; do
        [ -f "$file" ] && murder "$(basename "$file" .pid)"
    done
    # What was in the foreground when Ctrl-C came: everything that names our directory.
    for file in $(grep -las -- "$dir/" /proc/[0-9]*/cmdline); do
        pid=${file#/proc/}
        pid=${pid%/cmdline}
        # Word splitting is wanted: a list of numbers.
        # shellcheck disable=SC2046
        [ "$pid" = $$ ] || kill -KILL $(tree "$pid") 2>/dev/null
    done
    if [ "$status" != 0 ] && [ "$status" != 130 ] && [ -n "$(ls "$dir/log")" ]; then
        say
        say "the last lines of the logs:"
        for file in "$dir"/log/*; do
            say "--- ${file##*/}"
            tail -n 4 "$file"
        done
    fi
    rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- time and ports ----------------------------------------------------------------------------

now_ms() { date +%s%3N; }
began=$(now_ms)

# A line with the time since the start.
tell() {
    elapsed=$(($(now_ms) - began))
    printf '[%4d.%d s] %s\n' $((elapsed / 1000)) $((elapsed % 1000 / 100)) "$*"
}

port_is_free() {
    ! cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        awk -v port="$(printf '%04X' "$1")" 'split($2, a, ":") == 2 && a[2] == port && $4 == "0A" { found = 1 } END { exit !found }'
}

# Nine ports: SQL and replicas' channel of three monitors, three nodes. Below the ephemeral range.
find_ports() {
    base=$((20000 + $$ % 100 * 20))
    tries=0
    while [ $tries -lt 100 ]; do
        free=yes
        for port in $((base + 1)) $((base + 2)) $((base + 3)) $((base + 10001)) $((base + 10002)) $((base + 10003)) \
            $((base + 11)) $((base + 12)) $((base + 13)); do
            port_is_free "$port" || free=
        done
        [ -n "$free" ] && return 0
        base=$((20000 + (base - 20000 + 20) % 2000))
        tries=$((tries + 1))
    done
    die "no free ports between 20000 and 22000"
}
find_ports
m1=127.0.0.1:$((base + 1))
m2=127.0.0.1:$((base + 2))
m3=127.0.0.1:$((base + 3))
replicas="m1=$m1,m2=$m2,m3=$m3"
monitors="postgres://autoctl_node@$m1,$m2,$m3/pg_auto_failover"

q() { as_user "$dir/pgquorum" --quiet "$@" </dev/null; }
q_all() { q "$@" --monitor "$monitors"; }

# until_true SECONDS WHAT COMMAND...: waits for it.
until_true() {
    limit=$(($(now_ms) + $1 * 1000))
    what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$(now_ms)" -lt "$limit" ] || die "$what: not within the time given to it"
        sleep 0.1
    done
}

# --- monitors ----------------------------------------------------------------------------------

tell "three monitors at $m1, $m2, $m3 (replicas' channel: ports + 10000)"
for i in 1 2 3; do
    q create monitor --pgdata "$dir/m$i" --name "m$i" --hostname 127.0.0.1 --pgport $((base + i)) \
        --replicas "$replicas" --auth trust --no-ssl || die "pgquorum create monitor failed"
    background "m$i" "$dir/pgquorum" run --pgdata "$dir/m$i"
done

role_of() { q_all show monitors | awk -F ' *[|] *' -v role="$1" '{ gsub(/ /, "", $1) } $3 == role { print $1; exit }'; }
has_leader() { [ -n "$(role_of leader)" ]; }
until_true 30 "a leader among the monitors" has_leader
tell "$(role_of leader) leads"
q_all show monitors

tell "stock settings take about 50 s to fail over; for the show, these are set (and replicated):"
for setting in "health_check_period = '1s'" "health_check_timeout = '1s'" "health_check_retry_delay = '500ms'" \
    "node_considered_unhealthy_timeout = '3s'" "primary_demote_timeout = '2s'" "startup_grace_period = '2s'"; do
    say "             ALTER SYSTEM SET pgautofailover.$setting"
    as_user psql -X -q "$monitors" -c "ALTER SYSTEM SET pgautofailover.$setting" >/dev/null || die "ALTER SYSTEM failed"
done
as_user psql -X -q "$monitors" -c "SELECT pg_reload_conf()" >/dev/null || die "pg_reload_conf() failed"
say "             (a stock keeper that is cut off stops its PostgreSQL after 20 s only: in production a"
say "             shorter primary_demote_timeout than that risks two primaries for a while)"

# --- nodes -------------------------------------------------------------------------------------

start_node() { background "n$1" pg_autoctl run --pgdata "$dir/n$1"; }

# state_of NAME: "reported assigned".
state_of() {
    q_all show state | awk -F ' *[|] *' -v name="$1" '{ gsub(/ /, "", $1); gsub(/ /, "", $7) } $1 == name { print $6, $7 }'
}
is_in_state() { [ "$(state_of "$1")" = "$2 $2" ]; }

for i in 1 2 3; do
    tell "node$i: pg_autoctl create postgres"
    # pg_autoctl 2.0 reads one host only while it creates the first node; all of them come next.
    as_user pg_autoctl create postgres --pgdata "$dir/n$i" --name "node$i" --hostname 127.0.0.1 \
        --pgport $((base + 10 + i)) --username app --dbname app --auth trust --no-ssl \
        --monitor "postgres://autoctl_node@$m1/pg_auto_failover" >>"$dir/log/n$i" 2>&1 ||
        die "pg_autoctl create postgres failed: $(grep -E 'ERROR|FATAL' "$dir/log/n$i" | tail -n 1)"
    as_user pg_autoctl config set pg_autoctl.monitor "$monitors" --pgdata "$dir/n$i" >>"$dir/log/n$i" 2>&1 ||
        die "pg_autoctl config set failed"
    start_node $i
    case $i in
        1) until_true 60 "node1 as the only node" is_in_state node1 single ;;
        *) until_true 90 "node$i as a standby" is_in_state "node$i" secondary ;;
    esac
done
until_true 60 "node1 as primary" is_in_state node1 primary
q_all show state

# --- the writer --------------------------------------------------------------------------------

uri=$(q_all show uri --formation default) || die "no connection string"
app psql -X -q "$uri" -c 'CREATE TABLE demo (id bigint PRIMARY KEY)' || die "the application cannot create a table"

# One row after another; "id time" of every acknowledged one goes to a file. A commit whose wait for
# the standby was cancelled comes with a warning and does not count.
cat >"$dir/writer" <<'SCRIPT'
id=0
while [ ! -e "$1/stop-writing" ]; do
    id=$((id + 1))
    if answer=$(timeout 5 psql -X -q "$2" -c "INSERT INTO demo VALUES ($id)" 2>&1) && [ -z "$answer" ]; then
        echo "$id $(date +%s%3N)" >>"$1/acknowledged"
    fi
done
SCRIPT
background writer env PGUSER=app PGCONNECT_TIMEOUT=2 sh "$dir/writer" "$dir" "$uri"
acknowledged() { cat "$dir/acknowledged" 2>/dev/null | wc -l; }
more_than() { [ "$(acknowledged)" -gt "$1" ]; }
until_true 20 "the first rows" more_than 20
tell "a client writes row after row: $(acknowledged) acknowledged so far"

# longest_gap FROM_MS: the longest time without an acknowledged row since then.
longest_gap() {
    awk -v from="$1" '$2 < from { last = $2 } $2 >= from { if (last && $2 - last > gap) gap = $2 - last; last = $2 } END { print gap + 0 }' "$dir/acknowledged"
}

# --- first murder: the monitor that leads ------------------------------------------------------

leader=$(role_of leader)
killed=$(now_ms)
tell "kill -9 of $leader, the monitor that leads"
murder "$leader"
new_leader() { other=$(role_of leader); [ -n "$other" ] && [ "$other" != "$leader" ]; }
until_true 30 "a new leader" new_leader
tell "$(role_of leader) leads now, $(($(now_ms) - killed)) ms later"
until_true 20 "more rows" more_than $(($(acknowledged) + 20))
tell "the longest gap between two acknowledged rows meanwhile: $(longest_gap "$killed") ms"

# --- second murder: the primary ----------------------------------------------------------------

primary=$(q_all show state | awk -F ' *[|] *' '{ gsub(/ /, "", $1) } $6 == "primary" { print $1; exit }')
[ -n "$primary" ] || die "no primary to kill"
number=${primary#node}
: >"$dir/seen"
new_events() {
    q_all show events --count 40 2>/dev/null | sed -n '3,$p' | grep -v '^$' >"$dir/events" || return 0
    grep -vxFf "$dir/seen" "$dir/events" >"$dir/new" || return 0
    cat "$dir/new" >>"$dir/seen"
    [ "${1:-}" = quiet ] || awk -F ' *[|] *' '{ split($1, t, " "); printf "             %s  %s -> %s: %s\n", substr(t[2], 1, 12), $3, $4, $5 }' "$dir/new"
}
new_events quiet
before=$(acknowledged)
killed=$(now_ms)
tell "kill -9 of $primary, the primary: keeper and PostgreSQL at once"
murder "n$number"
promoted() {
    new_events >&3
    q_all show state | awk -F ' *[|] *' -v dead="$primary" '{ gsub(/ /, "", $1) } $1 != dead && ($6 == "primary" || $6 == "wait_primary") { found = 1 } END { exit !found }'
}
exec 3>&1
until_true 120 "a new primary" promoted
until_true 60 "rows at the new primary" more_than "$before"
new_events
tell "writes work again; they failed for $(longest_gap "$killed") ms"
outage=$(longest_gap "$killed")

# --- the dead come back ------------------------------------------------------------------------

tell "$primary and $leader start again"
start_node "$number"
background "$leader" "$dir/pgquorum" run --pgdata "$dir/$leader"
rejoined() { new_events >&3; is_in_state "$primary" secondary; }
until_true 120 "$primary as a standby" rejoined
healed() { [ "$(q_all show monitors | awk -F ' *[|] *' '$3 == "leader" || $3 == "follower"' | wc -l)" = 3 ]; }
until_true 60 "$leader among the monitors" healed
tell "both are back"
q_all show monitors
q_all show state

# --- the count ---------------------------------------------------------------------------------

touch "$dir/stop-writing"
sleep 1
app psql -X -q -A -t "$uri" -c 'SELECT id FROM demo' >"$dir/rows" || die "cannot read the rows"
cut -d ' ' -f 1 "$dir/acknowledged" | sort >"$dir/promised"
sort "$dir/rows" >"$dir/present"
lost=$(comm -23 "$dir/promised" "$dir/present" | wc -l)
tell "acknowledged rows: $(acknowledged); lost: $lost; writes failed for $outage ms after the kill of the primary"
rm -f "$dir/writer.pid"

if [ "$keep" = yes ]; then
    cat >"$dir/stop" <<SCRIPT
#!/bin/sh
# Stops and removes this demonstration.
tree() { for pid in "\$@"; do echo "\$pid"; for child in \$(cat /proc/"\$pid"/task/*/children 2>/dev/null); do tree "\$child"; done; done; }
for file in "$dir"/*.pid; do
    read -r root birth <"\$file"
    now=\$(sed 's/.*) //' "/proc/\$root/stat" 2>/dev/null | cut -d ' ' -f 20)
    [ -n "\$birth" ] && [ "\$now" = "\$birth" ] && kill -9 \$(tree "\$root") 2>/dev/null
done
rm -rf "$dir"
SCRIPT
    chmod 755 "$dir/stop"
    say
    say "It keeps running. To look around:"
    say "  export PG_AUTOCTL_MONITOR='$monitors'"
    say "  $dir/pgquorum show state"
    say "  $dir/pgquorum show events"
    say "  $dir/pgquorum perform switchover"
    say "  psql '$uri' -U app"
    say "To stop and remove it: $dir/stop"
fi
[ "$lost" = 0 ] || die "$lost acknowledged rows are gone"
