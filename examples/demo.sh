#!/usr/bin/env bash
# Shows what reservd does: starts a service with a database of its own in a temporary
# folder, imports flights, and sends a wave of travellers. Fails if a promise was broken.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'TXT'
usage: examples/demo.sh [--csv FILE] [--server URL] [OPTION OF THE WAVE...]
  --csv FILE        import and use these flights instead of examples/flights.csv
  --server URL      use this service, which stays as it is, instead of a temporary one
  --travellers N    how many users act at once
  --trips N         how many trips each makes
  --seed N          repeat the wishes of an earlier wave
TXT
}

csv=examples/flights.csv
server=
wave=()
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage && exit 0 ;;
        --csv | --server | --travellers | --trips | --seed) [ $# -ge 2 ] || { usage >&2 && exit 2; } ;;
        *) usage >&2 && exit 2 ;;
    esac
    case "$1" in
        --csv) csv=$2 ;;
        --server) server=$2 ;;
        *) wave+=("$1" "$2") ;;
    esac
    shift 2
done

# The demonstration is about a service with the default settings, and never about the
# database that the caller's environment points to.
unset DATABASE_URL "${!RESERVD_@}"

folder=
service=
clean_up() {
    trap '' HUP INT TERM
    if [ -n "$service" ]; then
        kill -TERM "$service" 2>/dev/null || true
        wait "$service" 2>/dev/null || true
    fi
    # A start that was cut off may still be writing for a moment.
    for _ in $(seq 50); do
        [ -n "$folder" ] && ! rm -rf "$folder" 2>/dev/null || return 0
        sleep 0.1
    done
    echo "Left behind: $folder" >&2
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

start_service() {
    folder=$(mktemp -d "${TMPDIR:-/tmp}/reservd-demo.XXXXXX")
    # As root, PostgreSQL runs as an ordinary user, who has to get through.
    chmod 711 "$folder"
    "$programs/reservd" serve --data-dir "$folder/data" --listen 127.0.0.1:0 \
        --set server.metrics_listen= >"$folder/out.log" 2>"$folder/log" &
    service=$!
    for _ in $(seq 600); do
        address=$(sed -n 's/.*"message":"reservd serves","address":"\([^"]*\)".*/\1/p' "$folder/log")
        [ -z "$address" ] || break
        kill -0 "$service" 2>/dev/null || break
        sleep 0.1
    done
    if [ -z "$address" ]; then
        echo "The service did not start:" >&2
        tail -n 20 "$folder/log" >&2
        exit 1
    fi
    server=http://$address
}

cargo build --release --locked --package reservd --package reservd-demo
programs=${CARGO_TARGET_DIR:-target}/release

if [ -z "$server" ]; then
    echo "Starting a service, with a database in a temporary folder."
    start_service
fi
echo "It serves at $server."
echo "Importing $csv:"
"$programs/reservd" event import "$csv" --server "$server"
echo "And once more, which changes nothing:"
"$programs/reservd" event import "$csv" --server "$server"
echo "Sending the wave."
echo
# The long form is for bash 3, to which an empty array is unset.
"$programs/reservd-demo" --csv "$csv" --server "$server" ${wave[@]+"${wave[@]}"}
