//! What the kernel counts for the whole machine or network namespace: processors, network, memory of its own.

use std::fs;

use crate::proc::{USER_HZ, field};
use crate::record::Network;

/// Part of a core's busy time up to which it does not matter that somebody else was there too.
const ALONE: f64 = 0.05;

/// Time of all processors together since the machine was started, see proc_stat(5).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Processors {
    /// Processors that are switched on.
    count: f64,
    all: Times,
    /// Of the one that was asked for.
    core: Option<Times>,
}

/// Seconds of one processor, or of several.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Times {
    user: f64,
    /// In user mode and in the kernel, by ticks.
    busy: f64,
    /// Without work, waiting for a disk included.
    idle: f64,
    /// Given to others by the hypervisor.
    steal: f64,
    /// Interrupts and softirqs, if the kernel takes them off the time of the process that they interrupt.
    apart: f64,
}

impl Times {
    fn parse(words: &str) -> Option<Times> {
        let seconds = |ticks: &str| Some(ticks.parse::<u64>().ok()? as f64 / USER_HZ as f64);
        let columns: Vec<f64> = words.split_ascii_whitespace().map_while(seconds).collect();
        let [user, nice, system, idle, waiting, irq, softirq, steal, ..] = columns[..] else { return None };
        // A kernel that measures interrupts (CONFIG_IRQ_TIME_ACCOUNTING) takes them off the time of the
        // process. One that counts by ticks leaves them in, and its ticks, being interrupts themselves, never
        // meet one.
        let (charged, apart) = if irq > 0.0 { (0.0, irq + softirq) } else { (softirq, 0.0) };
        let user = user + nice;
        Some(Times { user, busy: user + system + charged, idle: idle + waiting, steal, apart })
    }
}

impl Processors {
    /// `core`: one that is to be told apart.
    pub(crate) fn read(core: Option<usize>) -> Option<Processors> {
        Processors::parse(&fs::read_to_string("/proc/stat").ok()?, core)
    }

    fn parse(stat: &str, core: Option<usize>) -> Option<Processors> {
        let line = |name: &str| Times::parse(stat.lines().find_map(|line| line.strip_prefix(name))?);
        let is_one = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
        Some(Processors {
            count: stat.lines().filter(is_one).count() as f64,
            all: line("cpu ")?,
            core: core.and_then(|core| line(&format!("cpu{core} "))),
        })
    }

    /// User time of the one core as a share of its busy time since `before`, if `server_s` seconds of work of
    /// the server are about all that it did.
    pub(crate) fn user_share_since(&self, before: &Processors, server_s: f64) -> Option<f64> {
        let (now, then) = self.core.zip(before.core)?;
        let busy = now.busy - then.busy;
        let is_alone = busy > 0.0 && (busy - server_s).abs() <= ALONE * busy;
        is_alone.then(|| ((now.user - then.user) / busy).clamp(0.0, 1.0))
    }

    /// Cores' worth of time that the hypervisor gave to others in the `elapsed_s` seconds since `before`.
    pub(crate) fn steal_since(&self, before: &Processors, elapsed_s: f64) -> f64 {
        (self.all.steal - before.all.steal).max(0.0) / elapsed_s
    }

    /// Cores that others kept busy in the `elapsed_s` seconds since `before`: `seen_s` is their CPU time as
    /// far as it was seen process by process, `known_s` that of server, load generator and lab.
    ///
    /// Whoever is in another container shows only in what the processors had no time for, and who began
    /// shortly before is seen with more than belongs here, so that the processors' own accounts are the
    /// bounds. There are two of them, in steps of 10 ms. What was not idle is the upper bound: it holds the
    /// way into sleep and out of it too, a tenth of a core where somebody wakes up fifty thousand times a
    /// second. Ticks often miss whoever wakes up for a moment, so that what they met, or the upper bound if
    /// that is smaller, is the lower one.
    pub(crate) fn others_since(&self, before: &Processors, elapsed_s: f64, known_s: f64, seen_s: f64) -> f64 {
        let (now, then) = (&self.all, &before.all);
        let unused_s = now.idle + now.steal + now.apart - then.idle - then.steal - then.apart;
        let most_s = (self.count * elapsed_s - unused_s - known_s).max(0.0);
        let least_s = (now.busy - then.busy - known_s).clamp(0.0, most_s);
        seen_s.clamp(least_s, most_s) / elapsed_s
    }
}

/// Memory of the kernel's own that grows with connections, threads and processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KernelMemory {
    pub(crate) stacks_bytes: u64,
    pub(crate) slab_bytes: u64,
}

impl KernelMemory {
    pub(crate) fn read() -> Option<KernelMemory> {
        KernelMemory::parse(&fs::read_to_string("/proc/meminfo").ok()?)
    }

    fn parse(meminfo: &str) -> Option<KernelMemory> {
        Some(KernelMemory {
            stacks_bytes: field(meminfo, "KernelStack:")? * 1024,
            slab_bytes: field(meminfo, "Slab:")? * 1024,
        })
    }
}

/// Memory of the buffers of all TCP and UDP sockets; see proc_net_sockstat(5).
pub(crate) fn socket_buffers_bytes() -> Option<u64> {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten()?;
    Some(socket_pages(&fs::read_to_string("/proc/net/sockstat").ok()?)? * page.unsigned_abs())
}

/// `TCP: inuse 1 orphan 0 tw 48 alloc 1 mem 73`, and the same for UDP. Both families of addresses are in it.
fn socket_pages(sockstat: &str) -> Option<u64> {
    let pages = |protocol| {
        let mut words =
            sockstat.lines().find_map(|line| line.strip_prefix(protocol))?.split_ascii_whitespace();
        words.find(|&word| word == "mem")?;
        words.next()?.parse::<u64>().ok()
    };
    Some(pages("TCP:")? + pages("UDP:").unwrap_or(0))
}

/// Bytes that were sent over the loopback interface, with all headers.
pub(crate) fn loopback_bytes() -> Option<u64> {
    sent_bytes(&fs::read_to_string("/proc/net/dev").ok()?, "lo")
}

/// The ninth number behind the interface's name; see proc_net_dev(5).
fn sent_bytes(dev: &str, interface: &str) -> Option<u64> {
    let numbers = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        (name.trim() == interface).then(|| numbers.to_owned())
    };
    dev.lines().find_map(numbers)?.split_ascii_whitespace().nth(8)?.parse().ok()
}

impl Network {
    /// What the network stack has counted since the machine was started.
    pub(crate) fn read() -> Option<Network> {
        let read = |name: &str| fs::read_to_string(format!("/proc/net/{name}")).ok();
        // Without IPv6 there is no snmp6.
        Network::parse(&read("netstat")?, &read("snmp")?, &read("snmp6").unwrap_or_default())
    }

    fn parse(netstat: &str, snmp: &str, snmp6: &str) -> Option<Network> {
        let both =
            |name| Some(named(snmp, "Udp:", name)? + field(snmp6, &format!("Udp6{name}")).unwrap_or(0));
        Some(Network {
            listen_overflows: named(netstat, "TcpExt:", "ListenOverflows")?,
            listen_drops: named(netstat, "TcpExt:", "ListenDrops")?,
            retransmitted: named(snmp, "Tcp:", "RetransSegs")?,
            receive_buffer_errors: both("RcvbufErrors")?,
            send_buffer_errors: both("SndbufErrors")?,
        })
    }

    /// What was counted since `before`.
    pub(crate) fn since(&self, before: &Network) -> Network {
        Network {
            listen_overflows: self.listen_overflows.saturating_sub(before.listen_overflows),
            listen_drops: self.listen_drops.saturating_sub(before.listen_drops),
            retransmitted: self.retransmitted.saturating_sub(before.retransmitted),
            receive_buffer_errors: self.receive_buffer_errors.saturating_sub(before.receive_buffer_errors),
            send_buffer_errors: self.send_buffer_errors.saturating_sub(before.send_buffer_errors),
        }
    }
}

/// A counter of a file in which a line of names stands above one of numbers; see proc_net_snmp(5).
fn named(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let place = names.split_ascii_whitespace().position(|one| one == name)?;
    numbers.split_ascii_whitespace().nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two processors of a virtual machine whose kernel counts by ticks.
    const BY_TICKS: &str = "cpu  471115 47 350762 1654796 5198 0 162867 1791 0 0\n\
        cpu0 230465 28 181563 830141 1131 0 81778 930 0 0\n\
        cpu1 240649 19 169199 824655 4067 0 81088 861 0 0\n\
        intr 190262441 0 0\nctxt 406113279\n";

    #[test]
    fn who_else_was_busy_is_what_is_left_over() {
        let before = Processors::parse(BY_TICKS, Some(1)).unwrap();
        assert_eq!((before.count, before.all.idle, before.all.steal), (2.0, 16_599.94, 17.91));
        let after = |line: &str| Processors::parse(&format!("{line}\ncpu0 1\ncpu1 1\n"), None).unwrap();
        let close = |figure: f64, expected: f64| assert!((figure - expected).abs() < 1e-6, "{figure}");
        // In two seconds 0.5 s of idle time, 0.1 s of steal, and the rest by ticks.
        let all = after("cpu  471235 47 350862 1654846 5198 0 162987 1801 0 0");
        close(all.steal_since(&before, 2.0), 0.05);
        close(all.others_since(&before, 2.0, 3.0, 0.0), 0.2);
        close(all.others_since(&before, 2.0, 3.5, 0.0), 0.0);
        // The ticks met less: the rest was the way into sleep and out of it.
        let less = after("cpu  471235 47 350862 1654846 5198 0 162957 1801 0 0");
        close(less.others_since(&before, 2.0, 3.0, 0.0), 0.05);
        close(less.others_since(&before, 2.0, 3.0, 0.3), 0.15);
        // Nobody can have used more than there was.
        close(less.others_since(&before, 2.0, 3.0, 9.0), 0.2);
    }

    #[test]
    fn a_kernel_that_measures_interrupts_keeps_them_apart() {
        let at = |system: u64, idle: u64, irq: u64, softirq: u64| {
            let stat = format!("cpu 1 0 {system} {idle} 0 {irq} {softirq} 0\ncpu0 1\n");
            Processors::parse(&stat, None).unwrap()
        };
        // A second of which the process was charged 0.6 s, and 0.3 s were softirqs.
        let apart = at(160, 110, 5, 130).others_since(&at(100, 100, 5, 100), 1.0, 0.6, 0.0);
        let charged = at(160, 110, 0, 130).others_since(&at(100, 100, 0, 100), 1.0, 0.9, 0.0);
        assert!(apart < 1e-9 && charged < 1e-9, "{apart} {charged}");
    }

    #[test]
    fn user_time_of_the_server_s_core_is_told_apart() {
        let before = Processors::parse(BY_TICKS, Some(1)).unwrap();
        // Of 40 ticks 10 were in user mode, softirqs being work of the kernel.
        let later = BY_TICKS.replace(
            "cpu1 240649 19 169199 824655 4067 0 81088",
            "cpu1 240655 23 169219 824700 4067 0 81098",
        );
        let after = Processors::parse(&later, Some(1)).unwrap();
        let share = after.user_share_since(&before, 0.39).unwrap();
        assert!((share - 0.25).abs() < 1e-6, "{share}");
        assert_eq!(after.user_share_since(&before, 0.3), None, "somebody else was there");
        assert_eq!(before.user_share_since(&before, 0.0), None);
        assert_eq!(Processors::parse(BY_TICKS, Some(7)).unwrap().core, None);
    }

    #[test]
    fn counters_of_the_network_stack_are_found_by_name() {
        let netstat = "TcpExt: SyncookiesSent TW ListenOverflows ListenDrops TCPHPHits\n\
            TcpExt: 0 1176357 128 131 547928112\nIpExt: InNoRoutes\nIpExt: 0\n";
        let snmp = "Tcp: RtoAlgorithm MaxConn RetransSegs InErrs\nTcp: 1 -1 40222 0\n\
            Udp: InDatagrams RcvbufErrors SndbufErrors\nUdp: 53522572 64190 2\n\
            UdpLite: InDatagrams RcvbufErrors SndbufErrors\nUdpLite: 0 9 9\n";
        let snmp6 = "Udp6InDatagrams                 \t102\nUdp6RcvbufErrors                \t10\n\
            Udp6SndbufErrors                \t1\n";
        let now = Network::parse(netstat, snmp, snmp6).unwrap();
        let expected = Network {
            listen_overflows: 128,
            listen_drops: 131,
            retransmitted: 40_222,
            receive_buffer_errors: 64_200,
            send_buffer_errors: 3,
        };
        assert_eq!(now, expected);
        assert_eq!(Network::parse(netstat, snmp, "").unwrap().send_buffer_errors, 2);
        assert_eq!(Network::parse("", snmp, snmp6), None);
        let before = Network { listen_drops: 100, ..Network::default() };
        assert_eq!(now.since(&before).listen_drops, 31);
    }

    #[test]
    fn what_the_kernel_holds_is_read_in_bytes() {
        let meminfo = "MemTotal: 24576000 kB\nSlab:             349392 kB\nKernelStack:        1516 kB\n";
        let memory = KernelMemory { stacks_bytes: 1516 * 1024, slab_bytes: 349_392 * 1024 };
        assert_eq!(KernelMemory::parse(meminfo), Some(memory));
        let sockstat = "sockets: used 15\nTCP: inuse 1 orphan 0 tw 48 alloc 1 mem 73\nUDP: inuse 0 mem 154\n\
            UDPLITE: inuse 0\n";
        assert_eq!(socket_pages(sockstat), Some(73 + 154));
        assert_eq!(socket_pages("sockets: used 15\n"), None);
    }

    #[test]
    fn the_loopback_interface_is_not_mistaken_for_another() {
        let dev = "Inter-|   Receive                        |  Transmit\n\
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n\
            vlo: 1 2 3 4 5 6 7 8 99 10 0 0 0 0 0 0\n    \
            lo: 145628873153 721442660    0 42999    0     0          0         0 145628873154 721442660    0 0 0 0 0 0\n";
        assert_eq!(sent_bytes(dev, "lo"), Some(145_628_873_154));
        assert_eq!(sent_bytes(dev, "eth0"), None);
    }

    #[test]
    fn this_machine_has_all_of_it() {
        assert!(Processors::read(None).is_some_and(|processors| processors.count >= 1.0));
        assert!(Network::read().is_some() && KernelMemory::read().is_some());
        assert!(socket_buffers_bytes().is_some() && loopback_bytes().is_some());
    }

    #[test]
    fn a_full_accept_queue_is_counted() {
        let before = Network::read().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let patience = std::time::Duration::from_millis(200);
        // Nobody accepts: some connections fit into the queue, and then none does any more.
        let mut open = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, patience) {
            open.push(stream);
            if open.len() > 10_000 {
                return switchboard_console::log!("not examined: this machine's accept queues are too long");
            }
        }
        let after = Network::read().unwrap();
        assert!(after.listen_overflows > before.listen_overflows, "{} fitted", open.len());
    }
}
