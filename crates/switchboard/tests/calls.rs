//! What a model's documentation says of the system calls of one message, held against what the kernel saw (strace(1)).

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use switchboard_models::{MODELS, Mechanism, Model};

mod needs;

/// Messages of the two servers that are compared: what a server does once is in both.
const FEW: usize = 20;
const MANY: usize = 120;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one thread called, in the order in which the calls returned.
type Trace = Vec<(u32, String)>;

/// How often a server is counted while the machine is busy.
const COUNTS: usize = 3;

fn main() {
    let missing = (!strace_works())
        .then(|| "strace(1) is missing, or may not trace: Debian: `apt-get install strace`".to_owned());
    let documented = "the_documentation_names_the_calls_of_the_registry_in_their_order";
    let mut trials = vec![needs::trial(documented, None, check_documentation)];
    for model in MODELS {
        let name = format!("{}::the_kernel_sees_the_calls_of_one_message_that_are_documented", model.name);
        let missing = (model.obstacle)().or_else(|| missing.clone());
        trials.push(needs::trial(name, missing, || check(model)));
    }
    let exact = "an_echo_is_one_read_and_one_write_however_busy_the_machine_is";
    trials.push(needs::trial(exact, missing, check_counts_under_load));
    needs::run(trials);
}

fn check_documentation() {
    for model in MODELS {
        assert_eq!(documented(model).0, model.calls, "{}", model.name);
    }
}

/// What `models --measure` says, with two more busy processes than there are cores.
fn check_counts_under_load() {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let busy = |_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    let neighbours: Vec<Killed> = (0..cores + 2).map(busy).map(Killed).collect();
    for _ in 0..COUNTS {
        let counted = Command::new(env!("CARGO_BIN_EXE_switchboard"))
            .args(["models", "threads,iterative", "--measure", "--json"])
            .output()
            .unwrap();
        let models: Vec<serde_json::Value> = serde_json::from_slice(&counted.stdout).unwrap();
        for model in &models {
            let said = |name: &str| format!("{:.2}", model["counted"]["calls"][name].as_f64().unwrap_or(0.0));
            assert_eq!([said("recvfrom"), said("sendto")], ["1.00", "1.00"], "{model}");
        }
        assert_eq!(models.len(), 2);
    }
    drop(neighbours);
}

/// A process that is killed when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn check(model: &Model) {
    let (few, many) = (trace(model, FEW), trace(model, MANY));
    let count = |trace: &Trace, name: &str| trace.iter().filter(|(_, called)| called == name).count() as f64;
    let names: BTreeMap<&str, ()> = many.iter().map(|(_, name)| (name.as_str(), ())).collect();
    let per_message = |name: &str| (count(&many, name) - count(&few, name)) / (MANY - FEW) as f64;
    let (_, others) = documented(model);
    for name in names.into_keys() {
        let expected = model.calls.iter().filter(|call| **call == name).count() as f64;
        let seen = per_message(name);
        let is_as_documented = (seen - expected).abs() < 0.3 || others.contains(&name.to_owned());
        assert!(is_as_documented, "{}: {seen} {name} a message, and {expected} in the registry", model.name);
    }
    for call in model.calls {
        assert!(per_message(call) > 0.5, "{}: {call} is not called", model.name);
    }
    // Where one thread does it all, the order is that of the list, over and over.
    let listed: Trace = many.into_iter().filter(|(_, name)| model.calls.contains(&name.as_str())).collect();
    let busiest = listed.iter().map(|(thread, _)| thread).max_by_key(|thread| threads(&listed, **thread));
    let Some(&busiest) = busiest else { panic!("{} called nothing", model.name) };
    if threads(&listed, busiest) * 10 < listed.len() * 9 {
        return;
    }
    let calls: Vec<&str> =
        listed.iter().filter(|(thread, _)| *thread == busiest).map(|(_, name)| name.as_str()).collect();
    let rounds = calls.windows(model.calls.len()).filter(|window| *window == model.calls).count();
    assert!(rounds * 10 >= MANY * 9, "{}: {rounds} of {MANY} messages in that order: {calls:?}", model.name);
}

fn threads(trace: &Trace, thread: u32) -> usize {
    trace.iter().filter(|(other, _)| *other == thread).count()
}

/// The calls of one message as the model's file has them, and those that it says may come with them.
fn documented(model: &Model) -> (Vec<String>, Vec<String>) {
    let start = model.source.find("- Calls of one message:").unwrap_or_else(|| panic!("{}", model.name));
    let bullet: String = model.source[start..]
        .lines()
        .enumerate()
        .take_while(|(number, line)| *number == 0 || line.starts_with("//!   "))
        .map(|(_, line)| format!("{line} "))
        .collect();
    let sentence = bullet.split(". ").next().unwrap_or_default();
    let (calls, others) = sentence.split_once(';').unwrap_or((sentence, ""));
    let names = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    (names(calls), names(others))
}

fn strace_works() -> bool {
    let attempt = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).status();
    attempt.is_ok_and(|status| status.success())
}

/// What a server calls that answers so many messages of one client.
fn trace(model: &Model, messages: usize) -> Trace {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace");
    let mut server = Command::new("strace")
        .args(["-I", "waiting", "-f", "-qq", "-o"])
        .arg(&file)
        .args([env!("CARGO_BIN_EXE_switchboard"), "serve", model.name, "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
    if model.serves.contains(&Mechanism::UdpEcho) {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        for _ in 0..messages {
            client.send(&[b'x'; 64]).unwrap();
            let received = loop {
                match client.recv(&mut [0; 100]) {
                    // The end of the strace before this one is a signal, too.
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    received => break received.unwrap(),
                }
            };
            assert_eq!(received, 64);
        }
    } else {
        talk(TcpStream::connect(address).unwrap(), model.serves.contains(&Mechanism::Echo), messages);
    }
    stop(server);
    parse(&file)
}

/// Sends messages, each when the one before has come back.
fn talk(mut client: TcpStream, is_websocket: bool, messages: usize) {
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // A frame with a mask of zeros holds its payload as it is; the answer has no mask.
    let payload = [b'x'; 64];
    let (message, answer_bytes) = match is_websocket {
        true => ([&[0x82, 0x80 | 64, 0, 0, 0, 0][..], &payload].concat(), 2 + 64),
        false => (payload.to_vec(), 64),
    };
    if is_websocket {
        let head = "GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        client.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
    }
    for _ in 0..messages {
        client.write_all(&message).unwrap();
        client.read_exact(&mut vec![0; answer_bytes]).unwrap();
    }
}

/// Ends strace by ending what it traces: it passes the signal on.
fn stop(mut server: Child) {
    let _ = Command::new("kill").arg(server.id().to_string()).status();
    let _ = server.wait();
}

/// What `strace -f` wrote, without the calls that found nothing to do.
fn parse(file: &Path) -> Trace {
    let text = fs::read_to_string(file).unwrap();
    let call = |line: &str| -> Option<(u32, String)> {
        let (thread, rest) = line.split_once(' ')?;
        let rest = rest.trim_start();
        if rest.contains("EAGAIN") || rest.ends_with("<unfinished ...>") || rest.ends_with(" = 0 (Timeout)") {
            return None;
        }
        let name = match rest.strip_prefix("<... ") {
            Some(resumed) => resumed.split(' ').next()?,
            None => rest.split_once('(')?.0,
        };
        Some((thread.parse().ok()?, name.to_owned()))
    };
    text.lines().filter_map(call).collect()
}
