//! Reads the CPU quota of a container (cgroups(7)): how many cores it may use, and whether the quota held processes back.
//!
//! A server that has used up its quota stands still until the next period, for up to 0.1 s. It looks like a slow server, but the limit was set by
//! the container. Both versions of cgroups are read, and every group from that of the lab up to the outermost visible one, because the tightest
//! quota applies.

use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A quota: CPU time in each period.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Quota {
    /// The version of cgroups, 1 or 2.
    cgroup: u8,
    /// The quota as cores.
    pub(crate) cores: f64,
    quota_us: u64,
    period_us: u64,
}

/// How a quota held processes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Throttled {
    /// The quota, in cores.
    pub cores: f64,
    /// Number of periods in which the quota was used up (`nr_throttled`).
    pub periods: u64,
    /// How long processes were held back, summed over all cores (`throttled_usec`, `throttled_time`).
    pub time_ns: u64,
}

/// The quotas that apply to the lab, and so to the servers that it starts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quotas(Vec<(Quota, PathBuf)>);

impl Quotas {
    /// The quotas of this process.
    pub(crate) fn here() -> Quotas {
        Quotas::within(Path::new("/"))
    }

    /// The same, with `root` for the root of the file system.
    fn within(root: &Path) -> Quotas {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let folders = folders(&text("proc/self/cgroup"), &text("proc/self/mountinfo"));
        let quota = |(version, folder): (u8, PathBuf)| {
            let folder = root.join(folder.strip_prefix("/").unwrap_or(&folder));
            let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
            let quota = match version {
                1 => first(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?),
                _ => second(&read("cpu.max")?),
            };
            Some((quota?, folder.join("cpu.stat")))
        };
        Quotas(folders.into_iter().filter_map(quota).collect())
    }

    /// The tightest of them.
    pub(crate) fn tightest(&self) -> Option<Quota> {
        self.0.iter().map(|(quota, _)| *quota).min_by(|one, other| one.cores.total_cmp(&other.cores))
    }

    /// How the quotas have held processes back so far; `None` without a quota.
    pub(crate) fn throttled(&self) -> Option<Throttled> {
        let cores = self.tightest()?.cores;
        let stats = self.0.iter().filter_map(|(_, stat)| fs::read_to_string(stat).ok());
        Some(stats.map(|text| parse_stat(&text)).fold(
            Throttled { cores, ..Throttled::default() },
            |sum, one| Throttled {
                cores,
                periods: sum.periods + one.periods,
                time_ns: sum.time_ns.saturating_add(one.time_ns),
            },
        ))
    }
}

impl Throttled {
    /// What has happened since an earlier moment.
    pub(crate) fn since(self, before: Throttled) -> Throttled {
        Throttled {
            cores: self.cores,
            periods: self.periods.saturating_sub(before.periods),
            time_ns: self.time_ns.saturating_sub(before.time_ns),
        }
    }
}

/// Version 1: `cpu.cfs_quota_us` (-1: no quota) and `cpu.cfs_period_us`.
fn first(quota: &str, period: &str) -> Option<Quota> {
    of(1, quota.trim().parse().ok()?, period.trim().parse().ok()?)
}

/// Version 2: `cpu.max`, a quota (or `max`) and a period.
fn second(max: &str) -> Option<Quota> {
    let mut words = max.split_whitespace();
    let quota = words.next()?.parse().ok()?;
    // Without a period in the file it is the default, 100 ms.
    of(2, quota, words.next().map_or(Some(100_000), |period| period.parse().ok())?)
}

fn of(cgroup: u8, quota_us: u64, period_us: u64) -> Option<Quota> {
    (period_us > 0).then(|| Quota { cgroup, cores: quota_us as f64 / period_us as f64, quota_us, period_us })
}

/// `cpu.stat`: in microseconds in version 2, in nanoseconds in version 1.
fn parse_stat(text: &str) -> Throttled {
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse::<u64>().ok()
    };
    let time_ns =
        number("throttled_usec").map(|us| us.saturating_mul(1000)).or_else(|| number("throttled_time"));
    Throttled { cores: 0.0, periods: number("nr_throttled").unwrap_or(0), time_ns: time_ns.unwrap_or(0) }
}

/// The folders of this process's cgroup and of all those around it, each with its version, from `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn folders(cgroup: &str, mountinfo: &str) -> Vec<(u8, PathBuf)> {
    // `4:cpu,cpuacct:/path` of version 1, `0::/path` of version 2; with both, the controller is where it is named.
    let lines: Vec<[&str; 3]> =
        cgroup.lines().filter_map(|line| line.splitn(3, ':').collect::<Vec<_>>().try_into().ok()).collect();
    let has_cpu = |controllers: &str| controllers.split(',').any(|name| name == "cpu");
    let named = lines.iter().find(|[_, controllers, _]| has_cpu(controllers)).map(|line| (1, line[2]));
    let unified = || lines.iter().find(|[number, ..]| *number == "0").map(|line| (2, line[2]));
    let Some((version, path)) = named.or_else(unified) else { return Vec::new() };
    let mount = mountinfo.lines().filter_map(Mount::parse).find(|mount| match version {
        1 => mount.kind == "cgroup" && has_cpu(mount.options),
        _ => mount.kind == "cgroup2",
    });
    let Some(mount) = mount else { return Vec::new() };
    // In a container the path may be the host's, of which only what is below the mount's root can be seen.
    let below = Path::new(path).strip_prefix(&mount.root).unwrap_or(Path::new(""));
    let is_plain = below.components().all(|part| matches!(part, Component::Normal(_)));
    let mut folder = mount.point.clone();
    if is_plain {
        folder.extend(below);
    }
    let mut folders = vec![(version, folder.clone())];
    while folder != mount.point && folder.pop() {
        folders.push((version, folder.clone()));
    }
    folders
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
struct Mount<'a> {
    root: PathBuf,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl Mount<'_> {
    fn parse(line: &str) -> Option<Mount<'_>> {
        let (left, right) = line.split_once(" - ")?;
        let (mut left, mut right) = (left.split(' ').skip(3), right.split(' '));
        let path = |text: &str| {
            PathBuf::from(text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
        };
        Some(Mount {
            root: path(left.next()?),
            point: path(left.next()?),
            kind: right.next()?,
            options: right.nth(1).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_of_both_versions_are_cores() {
        let cores = |quota: Option<Quota>| quota.map(|quota| (quota.cgroup, quota.cores));
        assert_eq!(cores(first("150000\n", "100000\n")), Some((1, 1.5)));
        assert_eq!(cores(first("-1\n", "100000\n")), None);
        assert_eq!(cores(second("50000 100000\n")), Some((2, 0.5)));
        assert_eq!(cores(second("200000\n")), Some((2, 2.0)));
        for unlimited in ["max 100000\n", "", "5000 0", "-5 100000", "x y"] {
            assert_eq!(cores(second(unlimited)), None, "{unlimited}");
        }
    }

    #[test]
    fn throttling_of_both_versions_is_nanoseconds() {
        let both = |text: &str| (parse_stat(text).periods, parse_stat(text).time_ns);
        let second = "usage_usec 79\nuser_usec 50\nsystem_usec 29\nnr_periods 40\nnr_throttled 12\nthrottled_usec 345678\nnr_bursts 0\nburst_usec 0\n";
        assert_eq!(both(second), (12, 345_678_000));
        assert_eq!(both("nr_periods 40\nnr_throttled 12\nthrottled_time 345678901\n"), (12, 345_678_901));
        assert_eq!(both("usage_usec 79\nuser_usec 50\nsystem_usec 29\n"), (0, 0), "the root has none");
    }

    /// Mounts as a host with version 2 has them, one with version 1, and containers on both.
    const HOST_2: &str = "24 1 0:22 / /proc rw - proc proc rw\n30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const HOST_1: &str = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const CONTAINER_1: &str = "900 890 0:29 /docker/abc /sys/fs/cgroup/cpu\\040x ro,nosuid master:11 - cgroup cgroup rw,cpu,cpuacct\n";

    #[test]
    fn every_group_around_the_lab_is_looked_at() {
        let found = |cgroup: &str, mounts: &str| -> Vec<String> {
            folders(cgroup, mounts)
                .into_iter()
                .map(|(version, folder)| format!("{version} {}", folder.display()))
                .collect()
        };
        assert_eq!(
            found("0::/user.slice/lab.scope\n", HOST_2),
            ["2 /sys/fs/cgroup/user.slice/lab.scope", "2 /sys/fs/cgroup/user.slice", "2 /sys/fs/cgroup"]
        );
        assert_eq!(found("0::/\n", HOST_2), ["2 /sys/fs/cgroup"]);
        assert_eq!(found("0::/../outside\n", HOST_2), ["2 /sys/fs/cgroup"]);
        assert_eq!(
            found("4:cpuset:/a\n3:cpu,cpuacct:/b\n0::/c\n", HOST_1),
            ["1 /sys/fs/cgroup/cpu,cpuacct/b", "1 /sys/fs/cgroup/cpu,cpuacct"]
        );
        assert_eq!(
            found("3:cpu,cpuacct:/docker/abc/inner\n", CONTAINER_1),
            ["1 /sys/fs/cgroup/cpu x/inner", "1 /sys/fs/cgroup/cpu x"]
        );
        assert!(
            found("", HOST_2).is_empty() && found("0::/\n", "").is_empty() && found("x", "y - z").is_empty()
        );
    }

    #[test]
    fn the_tightest_quota_rules_and_what_all_of_them_did_is_added_up() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/self/cgroup", "0::/pod/container\n");
        write("proc/self/mountinfo", HOST_2);
        for (group, max, throttled) in
            [("pod/container", "max 100000", 0), ("pod", "150000 100000", 7), ("", "400000 100000", 2)]
        {
            write(&format!("sys/fs/cgroup/{group}/cpu.max"), max);
            write(
                &format!("sys/fs/cgroup/{group}/cpu.stat"),
                &format!("nr_throttled {throttled}\nthrottled_usec {throttled}000\n"),
            );
        }
        let quotas = Quotas::within(root.path());
        assert_eq!(quotas.tightest().unwrap().cores, 1.5);
        let before = quotas.throttled().unwrap();
        assert_eq!(before, Throttled { cores: 1.5, periods: 9, time_ns: 9_000_000 });
        write("sys/fs/cgroup/pod/cpu.stat", "nr_throttled 10\nthrottled_usec 9500\n");
        assert_eq!(
            quotas.throttled().unwrap().since(before),
            Throttled { cores: 1.5, periods: 3, time_ns: 2_500_000 }
        );
        let free = tempfile::tempdir().unwrap();
        assert_eq!(Quotas::within(free.path()).throttled(), None);
    }
}
