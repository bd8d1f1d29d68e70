//! What the kernel counts for the whole machine or network namespace.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

use crate::record::Network;

/// Ticks a second in /proc; fixed at 100 for user space on every architecture that Rust's std supports.
pub(crate) const USER_HZ: u64 = 100;

/// Counters at one moment. What this kernel does not have is zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) network: Network,
    /// Bytes sent over the loopback interface.
    pub(crate) loopback_bytes: u64,
    /// Time that the CPUs were busy, in ticks, and that the hypervisor kept back.
    pub(crate) busy_ticks: u64,
    pub(crate) steal_ticks: u64,
    /// Ticks in user mode and in the kernel on the one core that was asked for.
    pub(crate) core_ticks: Option<(u64, u64)>,
}

/// Memory of the kernel at one moment, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KernelMemory {
    pub(crate) stacks: i64,
    pub(crate) socket_buffers: i64,
    pub(crate) slab: i64,
}

impl Counters {
    /// `core`: the one that the server has to itself.
    pub(crate) fn read(core: Option<usize>) -> Counters {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (netstat, snmp, snmp6) =
            (file("/proc/net/netstat"), file("/proc/net/snmp"), file("/proc/net/snmp6"));
        let stat = file("/proc/stat");
        let (busy_ticks, steal_ticks) = cpu_ticks(&stat).unwrap_or_default();
        Counters {
            network: Network {
                listen_overflows: named(&netstat, "TcpExt:", "ListenOverflows"),
                listen_drops: named(&netstat, "TcpExt:", "ListenDrops"),
                retransmitted: named(&snmp, "Tcp:", "RetransSegs"),
                receive_buffer_errors: named(&snmp, "Udp:", "RcvbufErrors")
                    + field(&snmp6, "Udp6RcvbufErrors"),
                send_buffer_errors: named(&snmp, "Udp:", "SndbufErrors") + field(&snmp6, "Udp6SndbufErrors"),
            },
            loopback_bytes: file("/sys/class/net/lo/statistics/tx_bytes").trim().parse().unwrap_or(0),
            busy_ticks,
            steal_ticks,
            core_ticks: core.and_then(|core| core_ticks(&stat, core)),
        }
    }

    /// What the network stack counted since `earlier`.
    pub(crate) fn network_since(&self, earlier: &Counters) -> Network {
        let (now, then) = (&self.network, &earlier.network);
        Network {
            listen_overflows: now.listen_overflows.saturating_sub(then.listen_overflows),
            listen_drops: now.listen_drops.saturating_sub(then.listen_drops),
            retransmitted: now.retransmitted.saturating_sub(then.retransmitted),
            receive_buffer_errors: now.receive_buffer_errors.saturating_sub(then.receive_buffer_errors),
            send_buffer_errors: now.send_buffer_errors.saturating_sub(then.send_buffer_errors),
        }
    }
}

impl KernelMemory {
    pub(crate) fn read() -> KernelMemory {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (meminfo, sockstat) = (file("/proc/meminfo"), file("/proc/net/sockstat"));
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
        let kib = |name| i64::try_from(field(&meminfo, name)).unwrap_or(0) * 1024;
        KernelMemory {
            stacks: kib("KernelStack:"),
            socket_buffers: tcp_pages(&sockstat) * page,
            slab: kib("Slab:"),
        }
    }
}

/// Busy and stolen time of all CPUs together; see proc_stat(5). Time spent on interrupts is busy: on loopback that is where
/// the other side's packets are received.
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let ticks: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|ticks| ticks.parse().ok()).collect();
    let [user, nice, system, _idle, _disk, irq, softirq, steal, ..] = ticks[..] else { return None };
    Some((user + nice + system + irq + softirq, steal))
}

/// User and kernel time of one CPU, interrupts counting for the kernel.
fn core_ticks(stat: &str, core: usize) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix(&format!("cpu{core} ")))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|ticks| ticks.parse().ok()).collect();
    let [user, nice, system, _idle, _disk, irq, softirq, ..] = ticks[..] else { return None };
    Some((user + nice, system + irq + softirq))
}

/// A number from the pairs of lines that /proc/net/snmp and netstat are made of: names, then values.
fn named(text: &str, protocol: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.starts_with(protocol));
    let place = lines.next().and_then(|names| names.split_whitespace().position(|word| word == name));
    place
        .zip(lines.next())
        .and_then(|(place, values)| values.split_whitespace().nth(place)?.parse().ok())
        .unwrap_or(0)
}

/// The number behind `name` at the start of a line.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// `TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 224`: pages of all buffers.
fn tcp_pages(sockstat: &str) -> i64 {
    let line = sockstat.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    line.split_once(" mem ").and_then(|(_, pages)| pages.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_network_stack_are_understood() {
        let netstat = "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPPrequeued\nTcpExt: 0 12 13 0\n\
                       IpExt: InNoRoutes ListenDrops\nIpExt: 5 6\n";
        assert_eq!(named(netstat, "TcpExt:", "ListenOverflows"), 12);
        assert_eq!(named(netstat, "TcpExt:", "ListenDrops"), 13);
        assert_eq!(named(netstat, "TcpExt:", "NotThere"), 0);
        assert_eq!(named("", "Tcp:", "RetransSegs"), 0);
        assert_eq!(field("Udp6InErrors   1\nUdp6RcvbufErrors       \t7\n", "Udp6RcvbufErrors"), 7);
        assert_eq!(
            tcp_pages("sockets: used 8\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 224\nUDP: inuse 0 mem 154\n"),
            224
        );
    }

    #[test]
    fn stolen_time_is_not_busy_and_idle_time_neither() {
        assert_eq!(cpu_ticks("cpu  10 1 5 100 20 2 3 4 7 7\ncpu0 1 2 3"), Some((21, 4)));
        assert_eq!(cpu_ticks("cpu 1 2"), None);
        let stat = "cpu  10 1 5 100 20 2 3 4 7 7\ncpu0 1 2 3 4 5 6 7 8\ncpu1 10 20 30 40 50 60 70 80\n";
        assert_eq!(core_ticks(stat, 1), Some((30, 160)));
        assert_eq!(core_ticks(stat, 2), None);
    }

    #[test]
    fn this_machine_has_been_busy() {
        assert!(Counters::read(None).busy_ticks > 0);
        assert!(KernelMemory::read().slab > 0);
    }
}
