//! The record of where a run took place: whatever may explain why two results differ. No names of users, no paths.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Value, json};

use crate::error::LabError;
use crate::files;
use crate::machine::{Cores, core_count, read};
use crate::quota::Quotas;
use crate::record::{ENVIRONMENT, SCHEMA};

/// Settings of the kernel that change what a socket benchmark measures.
const SYSCTLS: &[&str] = &[
    "fs.file-max",
    "fs.nr_open",
    "kernel.sched_autogroup_enabled",
    "net.core.busy_poll",
    "net.core.default_qdisc",
    "net.core.netdev_max_backlog",
    "net.core.rmem_default",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.core.wmem_default",
    "net.core.wmem_max",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_wmem",
    "net.ipv4.udp_mem",
    "vm.max_map_count",
    "vm.overcommit_memory",
];

/// Crates that send, receive, wait and measure.
const KEY_CRATES: &[&str] =
    &["bytes", "crossbeam", "hdrhistogram", "httparse", "mio", "nix", "socket2", "tungstenite"];

const CARGO_LOCK: &str = include_str!("../../../Cargo.lock");

/// Writes `environment.json` of a results folder.
pub(crate) fn write(
    dir: &Path,
    host: &str,
    cores: Option<Cores>,
    busy_share: Option<f64>,
) -> Result<(), LabError> {
    let path = dir.join(ENVIRONMENT);
    let text =
        serde_json::to_vec_pretty(&gather(host, cores, busy_share)).expect("a JSON value is valid JSON");
    files::write_whole(&path, &text).map_err(LabError::file(&path))
}

/// Why the points of `dir` and those of this machine do not belong into one picture.
pub(crate) fn differs_from(dir: &Path) -> Option<String> {
    let recorded: Value = serde_json::from_slice(&files::read(&dir.join(ENVIRONMENT)).ok()?).ok()?;
    let here = [("CPU", "/cpu/model", json!(cpu_model())), ("kernel", "/kernel", json!(kernel()))];
    here.into_iter().find_map(|(what, pointer, now)| {
        let then = recorded.pointer(pointer).filter(|then| **then != now)?;
        Some(format!("it was begun with the {what} {then}, this is {now}; start a new run"))
    })
}

/// The name of this machine, in letters that a folder's name can have.
pub(crate) fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    label(name.split('.').next().unwrap_or_default())
}

/// Letters, digits and hyphens of `name`; `host` if nothing is left.
pub(crate) fn label(name: &str) -> String {
    let kept: String =
        name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    let kept = kept.trim_matches('-');
    if kept.is_empty() { "host".to_owned() } else { kept.to_owned() }
}

/// The share of all cores that was busy during the last moment, from 0 to 1. The load average would remember
/// our own last run for minutes.
pub(crate) fn busy_share() -> Option<f64> {
    let before = cpu_ticks(&read("/proc/stat")?)?;
    std::thread::sleep(Duration::from_millis(200));
    let after = cpu_ticks(&read("/proc/stat")?)?;
    let (busy, all) = (after.0 - before.0, after.1.checked_sub(before.1).filter(|&all| all > 0)?);
    Some(busy as f64 / all as f64)
}

/// Busy ticks and all ticks of all cores since the start of the machine; see proc_stat(5).
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let ticks: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|ticks| ticks.parse().ok()).collect();
    // The fourth and fifth are idle and waiting for a disk; guest time is in user time already.
    let all: u64 = ticks.iter().take(8).sum();
    Some((all - ticks.get(3)? - ticks.get(4)?, all))
}

fn gather(host: &str, cores: Option<Cores>, busy_share: Option<f64>) -> Value {
    json!({
        "schema": SCHEMA,
        "date": crate::now(),
        "host": host,
        "command": command_line(),
        "git": git(),
        "switchboard": {
            "version": env!("CARGO_PKG_VERSION"),
            "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
            "rustc": env!("SWITCHBOARD_RUSTC"),
            "crates": crates(),
        },
        "cpu": {
            "model": cpu_model(),
            "cores": core_count(),
            "siblings_of_core_0": read("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list"),
            "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            "boost": read("/sys/devices/system/cpu/cpufreq/boost"),
            "mitigations": mitigations(),
        },
        "cpu_quota": Quotas::here().tightest(),
        "pinning": cores,
        "memory_bytes": meminfo("MemTotal:"),
        "memory_available_bytes": meminfo("MemAvailable:"),
        "busy_share_before": busy_share,
        "kernel": kernel(),
        "architecture": std::env::consts::ARCH,
        "virtualisation": virtualisation(),
        "clock_source": read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "limits": limits(),
        "sysctls": SYSCTLS.iter().map(|name| (*name, sysctl(name))).collect::<BTreeMap<_, _>>(),
    })
}

/// As given, but for the folder that the program lies in, which may be somebody's home.
pub(crate) fn command_line() -> Vec<String> {
    let mut arguments: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(program) = arguments.first_mut() {
        *program = Path::new(&*program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    }
    arguments
}

/// The commit of the working directory, and whether files under version control were changed since.
fn git() -> Option<Value> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"]);
    Some(json!({ "commit": commit, "dirty": changes.map(|changes| !changes.is_empty()) }))
}

fn crates() -> BTreeMap<String, Vec<String>> {
    let lock: toml::Table = CARGO_LOCK.parse().unwrap_or_default();
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in lock.get("package").and_then(|packages| packages.as_array()).into_iter().flatten() {
        let text = |key: &str| package.get(key).and_then(|value| value.as_str());
        if let (Some(name), Some(version)) = (text("name"), text("version"))
            && KEY_CRATES.contains(&name)
        {
            versions.entry(name.to_owned()).or_default().push(version.to_owned());
        }
    }
    versions
}

fn cpu_model() -> Option<String> {
    let cpuinfo = read("/proc/cpuinfo")?;
    let named = |key: &str| cpuinfo.lines().find(|line| line.starts_with(key))?.split_once(": ");
    // ARM has no model name; the part number is what there is.
    named("model name").or_else(|| named("CPU part")).map(|(_, name)| name.trim().to_owned())
}

fn kernel() -> Option<String> {
    read("/proc/sys/kernel/osrelease")
}

fn mitigations() -> BTreeMap<String, Option<String>> {
    let folder = "/sys/devices/system/cpu/vulnerabilities";
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.map(|name| (name.clone(), read(&format!("{folder}/{name}")))).collect()
}

fn virtualisation() -> Option<String> {
    let mut hints = Vec::new();
    if read("/proc/cpuinfo").is_some_and(|info| info.split_whitespace().any(|flag| flag == "hypervisor")) {
        hints.push("virtual machine".to_owned());
    }
    for file in ["/sys/hypervisor/type", "/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/product_name"] {
        hints.extend(read(file));
    }
    if ["/run/.containerenv", "/.dockerenv"].iter().any(|file| Path::new(file).exists()) {
        hints.push("container".to_owned());
    }
    (!hints.is_empty()).then(|| hints.join(", "))
}

fn limits() -> Value {
    let limit = |resource| {
        let shown = |value| if value == nix::libc::RLIM_INFINITY { json!("unlimited") } else { json!(value) };
        getrlimit(resource).ok().map(|(soft, hard)| json!({ "soft": shown(soft), "hard": shown(hard) }))
    };
    json!({
        "nofile": limit(Resource::RLIMIT_NOFILE),
        "nproc": limit(Resource::RLIMIT_NPROC),
        "stack_bytes": limit(Resource::RLIMIT_STACK),
        "pid_max": sysctl("kernel.pid_max"),
        "threads_max": sysctl("kernel.threads-max"),
    })
}

/// A number where it is one, the text otherwise, null where this kernel does not have it.
fn sysctl(name: &str) -> Value {
    let text = read(&format!("/proc/sys/{}", name.replace('.', "/")));
    text.map_or(Value::Null, |text| text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number)))
}

fn meminfo(name: &str) -> Option<u64> {
    let meminfo = read("/proc/meminfo")?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_names_machine_versions_and_limits() {
        let record = gather("here", Some(Cores { server: 0, load: 1, lab: 1 }), Some(0.0));
        for pointer in [
            "/date",
            "/cpu/cores",
            "/kernel",
            "/limits/nofile/hard",
            "/sysctls/net.ipv4.ip_local_port_range",
            "/switchboard/rustc",
            "/switchboard/crates/mio",
            "/memory_bytes",
            "/pinning/server",
        ] {
            assert!(record.pointer(pointer).is_some_and(|value| !value.is_null()), "{pointer}: {record:#}");
        }
        assert!(!record["command"][0].as_str().unwrap().contains('/'), "{}", record["command"]);
    }

    #[test]
    fn results_of_another_machine_are_not_continued() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(differs_from(folder.path()), None, "nothing is known");
        write(folder.path(), "here", None, None).unwrap();
        assert_eq!(differs_from(folder.path()), None);
        let path = folder.path().join(ENVIRONMENT);
        let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        record["cpu"]["model"] = json!("another");
        fs::write(&path, record.to_string()).unwrap();
        assert!(differs_from(folder.path()).unwrap().contains("CPU \"another\""));
    }

    #[test]
    fn idle_time_and_guests_do_not_count_as_busy() {
        let stat = "cpu  10 1 5 100 20 2 3 4 7 7\ncpu0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some((25, 145)));
        assert_eq!(cpu_ticks("cpu 1 2"), None);
    }

    #[test]
    fn a_host_name_becomes_part_of_a_folder_name() {
        assert_eq!(label("Ann's laptop/2"), "Ann-s-laptop-2");
        assert_eq!(label("../.."), "host");
    }
}
