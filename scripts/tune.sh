#!/bin/sh
# What the kernel has to allow for many connections on one machine, beside what it allows now.
#
#   scripts/tune.sh [--connections N] [--apply]
#
# Changes nothing without --apply, which needs root and lasts until the next boot. Exit status: 0 all is enough, 1 something is not, 2 usage.
set -eu

connections=100000
apply=no
while [ $# -gt 0 ]; do
    case $1 in
        --connections)
            connections=${2:-}
            case $connections in
                '' | *[!0-9]*) echo "--connections needs a number" >&2; exit 2 ;;
            esac
            shift 2 ;;
        --apply) apply=yes; shift ;;
        -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "unknown argument $1; there are --connections N and --apply" >&2; exit 2 ;;
    esac
done

enough=0

# need NAME LEAST WHY: a sysctl that must be at least so much.
need() {
    path=/proc/sys/$(echo "$1" | tr . /)
    [ -r "$path" ] || return 0
    now=$(cat "$path")
    if [ "$now" -ge "$2" ] 2>/dev/null; then
        printf '  ok    %-34s %s\n' "$1" "$now"
    elif [ $apply = yes ] && { echo "$2" >"$path"; } 2>/dev/null; then
        printf '  set   %-34s %s (was %s)\n' "$1" "$2" "$now"
    else
        enough=1
        printf '  low   %-34s %s: %s\n        sysctl -w %s=%s\n' "$1" "$now" "$3" "$1" "$2"
    fi
}

echo "for $connections connections, both ends on this machine:"
need fs.file-max $((connections * 2 + 20000)) "open files of all processes together"
need fs.nr_open 20000 "the highest hard limit that ulimit -n can be given"
need net.core.somaxconn 4096 "connections that wait to be accepted"
need net.ipv4.tcp_max_syn_backlog 1024 "connections that are being opened"
need net.netfilter.nf_conntrack_max $((connections * 2 + 20000)) "connections that the firewall follows"
need kernel.pid_max 32768 "processes and threads, for fork and threads"
need vm.max_map_count 65530 "mappings of a process, six for each thread of threads"

# Each source address of the client has so many ports; on loopback it takes as many addresses as it needs.
range=$(cat /proc/sys/net/ipv4/ip_local_port_range)
low=${range%%[!0-9]*}
high=${range##*[!0-9]}
printf '  ok    %-34s %s to %s: on loopback the load generator goes on to further addresses\n' \
    net.ipv4.ip_local_port_range "$low" "$high"

# A worker with a table of its own and each thread of the load generator may hold so many.
hard=$(ulimit -H -n)
if [ "$hard" = unlimited ] || [ "$hard" -ge "$connections" ]; then
    printf '  ok    %-34s %s\n' "ulimit -n (hard)" "$hard"
else
    tables=$(((connections + connections / 10 + hard - 65) / (hard - 64)))
    printf '  note  %-34s %s: %s tables of descriptors are needed, one for each worker and for each thread of the load generator;\n' \
        "ulimit -n (hard)" "$hard" "$tables"
    printf '        switchboard run scale does that by itself; by hand: serve reactors --workers %s, load --threads %s\n' \
        "$tables" "$tables"
fi

# What both ends of a silent connection take on a kernel of today, objects of the kernel and both programs.
need_kib=$((connections * 12))
free_kib=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)
if [ "$free_kib" -ge "$need_kib" ]; then
    printf '  ok    %-34s %s MiB, about %s MiB needed\n' "memory available" $((free_kib / 1024)) $((need_kib / 1024))
else
    enough=1
    printf '  low   %-34s %s MiB, about %s MiB needed\n' "memory available" $((free_kib / 1024)) $((need_kib / 1024))
fi

if [ $enough = 1 ] && [ $apply = no ]; then
    echo "nothing was changed; --apply sets the sysctls until the next boot"
fi
exit $enough
