#!/bin/sh
# Stands in for the command `switchboard` in the tests of the lab: every model misbehaves in its own way. The port that
# `serve` prints tells `load` which model it talks to; `load` and the test find the server's id in the file
# `server-MODEL.pid`, and the file `hang` makes every load generator hang. The file `fails-to-stop` makes servers that are told to
# stop fail, the file `fails-to-return` those that are started in the place of others.
here=$(dirname "$0")
say() { printf '%s\n' "$1"; }
phases() { for phase in connecting connected measuring; do say "{\"phase\":\"$phase\"}"; done; }
distribution='{"min":1,"p50":2,"p90":3,"p99":4,"p99_9":5,"max":6,"mean":2.5}'
result() { # open refused errors lost
    say '{"phase":"measured"}'
    say "{\"schema\":1,\"connections_open\":$1,\"refused\":$2,\"errors\":$3,\"window_ns\":1000000000,\"messages\":1000,
\"messages_per_s\":1000.0,\"lost\":$4,\"duplicated\":0,\"reordered\":0,\"corrupted\":0,\"latency_ns\":$distribution,
\"last_receiver_ns\":null,\"connect_ns\":$distribution,\"upgrade_ns\":null,\"client_cpu_ns\":500000,\"client_cpu\":0.5,
\"latency_histogram\":\"QUJD\"}" | tr -d '\n'
    echo
}
result_with() { # part of the result
    result 4 '{}' '{}' 7 | sed "s/\"lost\":7/\"lost\":7,$1/"
}
wait_for_ever() { sleep 600 & wait; }

case $1 in
serve)
    model=$2
    if [ -e "$here/fails-to-return" ] && [ -e "$here/server-$model.pid" ]; then
        echo "somebody else has the port" >&2
        exit 1
    fi
    echo $$ >"$here/server-$model.pid"
    case $model in
    fork) port=1 ;; threads) port=2 ;; select) port=4 ;; poll) port=5 ;; epoll) port=6 ;; udp) port=7 ;; raw) port=8 ;;
    threads-direct) echo "cannot bind 127.0.0.1:0: no luck" >&2; exit 1 ;;
    esac
    if [ -e "$here/fails-to-stop" ]; then trap 'exit 3' TERM; else trap 'exit 0' TERM; fi
    echo "listening on 127.0.0.1:$port"
    wait_for_ever
    ;;
load)
    if [ -e "$here/hang" ]; then
        say '{"phase":"connecting"}'
        : >"$here/hanging"
        wait_for_ever
    fi
    case $2 in
    *:1/echo) phases; kill -9 "$(cat "$here/server-fork.pid")"; wait_for_ever ;;
    *:2/echo) phases; result 4 '{}' '{}' 3; exit 1 ;;
    *:4/echo) phases; result 3 '{"503 FD_SETSIZE":1}' '{}' 0 ;;
    *:5/echo) say '{"phase":"connecting"}'; echo "still trying" >&2; wait_for_ever ;;
    *:6/echo) phases; result 4 '{}' '{}' 0 ;;
    sse+http://*:6/*)
        # Nobody comes again who was not told to.
        case "$*" in *--reconnect*) ;; *) exit 2 ;; esac
        first=$(cat "$here/server-epoll.pid")
        phases
        while [ "$(cat "$here/server-epoll.pid")" = "$first" ]; do sleep 0.02; done
        result_with "\"reconnect\":{\"disconnected\":{\"closed\":4},\"attempts\":4,\"failed\":{},\"blind_ns\":$distribution,\
\"still_blind\":0,\"replayed\":8,\"replayed_age_ns\":null,\"unpublished\":5,\"unknown\":1}"
        ;;
    udp://*:7) phases; result 4 '{}' '{}' 12 ;;
    tcp://*:8) echo "a bug" >&2; exit 101 ;;
    esac
    ;;
esac
