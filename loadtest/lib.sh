# What the measurements share. Source it: . "$(dirname "$0")/lib.sh"
#
# Each measurement brings up an installation of its own beside whatever runs (instance $instance, loopback ports only),
# and takes it down again, also after a failure. Programs: $SC_BIN_DIR, with the images of them made already; else deploy/images builds both.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

instance=scl$$
work=$(mktemp -d)
http=127.0.0.1:$((17000 + $$ % 900)) api=127.0.0.1:$((18000 + $$ % 900)) admin=127.0.0.1:$((19000 + $$ % 900))
trap 'end' EXIT
trap 'exit 130' INT TERM

say() { printf '%s\n' "$*" >&2; }

sc() { env -u SC_TOKEN HOME="$work" XDG_CONFIG_HOME="$work" "$bin/sc" "$@"; }

up() {
    if [[ -n ${SC_BIN_DIR:-} ]]; then
        bin=$SC_BIN_DIR # and the images are there
    else
        deploy/images
        bin=$(deploy/images --binaries)
    fi
    sc up --instance "$instance" --http "$http" --listen "$api" --admin "$admin" --pool 10.209.0.0/16 >&2
}

end() {
    local status=$?
    trap - EXIT
    if [[ -n ${bin:-} ]]; then sc down --instance "$instance" --purge >/dev/null 2>&1 || true; fi
    rm -rf "$work"
    exit "$status"
}

# Milliseconds since 1970.
now() { printf '%s' $((${EPOCHREALTIME/./} / 1000)); }

# get ADDR HOST PATH: the whole answer of one GET over a fresh connection; nothing when there is none. No process is started.
get() {
    local line
    exec 9<>"/dev/tcp/${1%:*}/${1##*:}" || return 1
    printf 'GET %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n' "$3" "$2" >&9
    while IFS= read -r -t 5 line <&9 || [[ -n $line ]]; do printf '%s\n' "${line%$'\r'}"; done
    exec 9<&- 9>&-
} 2>/dev/null

# header NAME: of the answer on standard input.
header() { sed -n "s/^$1: *//Ip" | head -1; }

# row NAME NUMBERS…: a line of a table with minimum, median, 90th and 99th percentile and maximum.
row() {
    local name=$1
    shift
    printf '%s\n' "$@" | sort -n | awk -v name="$name" '
        { v[NR] = $1 }
        function at(q) { i = int(q * (NR - 1) + 1.5); return v[i > NR ? NR : i] }
        END { printf "%-44s %5d %8d %8d %8d %8d %8d\n", name, NR, v[1], at(0.5), at(0.9), at(0.99), v[NR] }'
}
table() { printf '%-44s %5s %8s %8s %8s %8s %8s\n' "$1" n min median p90 p99 max; }
