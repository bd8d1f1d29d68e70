#!/usr/bin/env bash
# Where a server's time goes: a profile by perf, or its instructions in user space by callgrind.
#
#   scripts/profile.sh MODEL [--connections N] [--depth N] [--payload BYTES] [--callgrind]
#
# Needs `cargo build --release`, and perf or valgrind. Server and load generator get a core each where there are two. perf samples the
# software clock, so it works without hardware counters; callgrind counts, so it says the same each time, and nothing of the kernel.
# callgrind does not know io_uring. Exit status: 0, 1 something failed, 2 usage.
set -euo pipefail
cd "$(dirname "$0")/.."

switchboard=target/release/switchboard
model=${1:-} connections=64 depth=1 payload=64 tool=perf
usage() { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
case $model in '' | -*) usage ;; esac
shift
while [ $# -gt 0 ]; do
  case $1 in
    --connections) connections=${2:?} && shift 2 ;;
    --depth) depth=${2:?} && shift 2 ;;
    --payload) payload=${2:?} && shift 2 ;;
    --callgrind) tool=valgrind && shift ;;
    *) usage ;;
  esac
done
[ -x $switchboard ] || { echo "$switchboard is not there: cargo build --release" >&2; exit 1; }
command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
url=ws
case $model in raw*) url=tcp ;; udp*) url=udp ;; esac

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
server_core=() load_core=()
[ "$(nproc)" -gt 1 ] && server_core=(taskset -c 0) load_core=(taskset -c 1)

# serve PREFIX...: starts the server and sets server and address.
serve() {
  "${server_core[@]}" "$@" $switchboard serve "$model" --listen 127.0.0.1:0 >"$work/out" 2>"$work/err" &
  server=$!
  for _ in $(seq 200); do
    address=$(sed -n 's/^listening on //p' "$work/out")
    [ -n "$address" ] && return
    kill -0 $server 2>/dev/null || { cat "$work/err" >&2; exit 1; }
    sleep 0.05
  done
  echo "the server does not listen" >&2
  exit 1
}

# load SECONDS: prints what the load generator reports.
load() {
  "${load_core[@]}" $switchboard load "$url://$address/echo" --connections "$connections" --depth "$depth" --payload "$payload" --warmup 1s --duration "$1s" --json
}

stop() { kill "$server" && wait "$server" || true; server=; }

echo "$model, $connections connections, $depth in flight on each, $payload bytes; $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), kernel $(uname -r), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
case $tool in
  perf)
    serve
    load 6 >"$work/load" &
    client=$!
    sleep 3
    perf record -q -e cpu-clock -F 4999 -p $server -o "$work/data" -- sleep 3
    wait $client
    stop
    sed -n 's/.*"messages_per_s":\([0-9]*\).*/\1 messages per second, watched/p' "$work/load"
    report() { perf report -i "$work/data" --no-children -g none "$@" 2>/dev/null | sed -n '/^ *[0-9.]*%/{s/  *-  *-  *$//;s/ *$//;p}'; }
    echo; echo "by program:"; report --sort dso | head -4
    echo; echo "by function:"; report --sort dso,symbol | head -40
    ;;
  valgrind)
    # What a run takes whatever it does stands in both, and not in their difference.
    for seconds in 1 3; do
      serve valgrind --tool=callgrind --callgrind-out-file="$work/callgrind-$seconds"
      load $seconds >"$work/load"
      stop
      instructions=$(sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$work/err")
      bytes=$(sed -n 's/.* messages, \([0-9]*\) bytes.*/\1/p' "$work/err")
      counts="${counts:-} $instructions $((bytes / payload))"
    done
    set -- $counts
    echo "$((($3 - $1) / ($4 - $2))) instructions in user space per message"
    echo; callgrind_annotate --auto=no "$work/callgrind-3" 2>/dev/null | sed -n '/^ *[0-9,]* *([ 0-9.]*%) /p' | sed 's/ \[[^]]*\]$//; s/[^ ]*\/registry\/src\/[^/]*\///; s/[^ ]*\/library\//library\//' | head -40
    ;;
esac
