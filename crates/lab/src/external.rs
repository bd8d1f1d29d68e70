//! Servers that are none of the models: started by a command of the user's, and measured as the models are, by the same client.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use switchboard_models::MODELS;

use crate::bounds::{LONGEST_NAME, MOST_SERVERS};
use crate::error::LabError;
use crate::experiment;
use crate::files;
use crate::mechanism::{self, MechanismName};
use crate::process::{Next, Process};
use crate::run::Interrupt;
use crate::say::say;

/// What stands for the port in a command.
const PORT: &str = "{port}";

/// The first port that Linux gives out if it is told nothing else, and the last that only root may have.
const FIRST_GIVEN_OUT: u16 = 32_768;
const PRIVILEGED: u16 = 1023;

/// Ports that are looked at for one that is free.
const TRIES: usize = 100;

/// How long a server may take to say its version.
const VERSION_PATIENCE: Duration = Duration::from_secs(10);

/// A server as a `[[server]]` table of a definition has it. Commands and files are relative to the working directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalServer {
    /// What it is called in tables and pictures.
    pub name: String,
    /// What starts it in the foreground, divided into words as a shell would. `{port}` stands for the port of 127.0.0.1 that it is to listen on;
    /// it is ready when that accepts, and ends on SIGTERM.
    pub command: String,
    /// What it is, and what it does not do.
    #[serde(default)]
    pub about: String,
    /// What can be asked of it: `echo`, or any others of the mechanisms that an experiment can name.
    #[serde(default = "echo")]
    pub speaks: Vec<MechanismName>,
    /// Where that is, if not where ours has it: `/echo`, `/broadcast`, `/events?topic=lab`, `/longpoll?topic=lab`, `/poll?topic=lab`, `/socket.io/`, `/`.
    /// `{mechanism}` stands for the mechanism's name.
    #[serde(default)]
    pub path: Option<String>,
    /// Files that are there when it is installed, beside the program that the command names.
    #[serde(default)]
    pub needs: Vec<PathBuf>,
    /// What installs it, for sh(1).
    #[serde(default)]
    pub install: Option<String>,
    /// What says its version in one line, for sh(1).
    #[serde(default)]
    pub version: Option<String>,
}

fn echo() -> Vec<MechanismName> {
    vec![MechanismName::try_from("echo".to_owned()).expect("this is a mechanism")]
}

/// A server as it was found on this machine when a run was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// As it was defined.
    #[serde(flatten)]
    pub server: ExternalServer,
    /// The version that it said it has.
    pub found: Option<String>,
    /// Why it cannot be run here, and what installs it.
    pub missing: Option<String>,
}

/// The part of a file that says which servers there are.
#[derive(Deserialize)]
struct Servers {
    #[serde(default)]
    server: Vec<ExternalServer>,
}

/// The servers of a built-in experiment, or of a file that has at least `[[server]]` tables.
pub(crate) fn read(name: &str) -> Result<Vec<ExternalServer>, LabError> {
    let path = Path::new(name);
    let wrong = |reason: String| LabError::Definition { file: path.to_owned(), reason };
    let text = match experiment::definition(name) {
        Some(text) => text.to_owned(),
        None => files::read_definition(path).map_err(LabError::file(path))?,
    };
    let Servers { server: servers } =
        toml::from_str(&text).map_err(|error| wrong(experiment::with_hint(&error)))?;
    if servers.is_empty() {
        return Err(wrong("has no [[server]]; one needs a name and a command with {port}".to_owned()));
    }
    check(&servers).map_err(wrong)?;
    Ok(servers)
}

/// What is wrong with a list of servers, in a sentence.
pub(crate) fn check(servers: &[ExternalServer]) -> Result<(), String> {
    if servers.len() > MOST_SERVERS {
        return Err(format!("{} servers: must be at most {MOST_SERVERS} [[server]] tables", servers.len()));
    }
    for (place, ExternalServer { name, command, path, speaks, .. }) in servers.iter().enumerate() {
        if !mechanism::is_name(name) {
            return Err(format!(
                "server `{name}`: a name is one word without commas and colons, of at most {LONGEST_NAME} letters"
            ));
        }
        if MODELS.iter().any(|model| model.name == name) {
            return Err(format!("server `{name}`: a model has this name already"));
        }
        if servers[..place].iter().any(|other| other.name == *name) {
            return Err(format!("server `{name}` stands twice"));
        }
        if !command.contains(PORT) {
            return Err(format!(
                "server `{name}`: its command has no {PORT}, so it cannot be told where to listen"
            ));
        }
        if words(command).is_none() {
            return Err(format!(
                "server `{name}`: its command has a quote without its other half, or no word"
            ));
        }
        if path.as_ref().is_some_and(|path| !path.starts_with('/')) {
            return Err(format!("server `{name}`: its path has to begin with /"));
        }
        if let Some(datagrams) = speaks.iter().find(|mechanism| mechanism.starts_with("udp")) {
            return Err(format!(
                "server `{name}`: {} is for models only; nobody can tell when a datagram socket is ready",
                &**datagrams
            ));
        }
    }
    Ok(())
}

fn words(command: &str) -> Option<Vec<String>> {
    shlex::split(command).filter(|words| !words.is_empty())
}

impl ExternalServer {
    /// Looks whether it can be run here, and asks it for its version.
    pub(crate) fn find(self, interrupt: &Interrupt) -> External {
        let missing = self.missing();
        let found = if missing.is_none() {
            self.version.as_deref().and_then(|command| first_line(command, interrupt))
        } else {
            None
        };
        External { found, missing, server: self }
    }

    fn missing(&self) -> Option<String> {
        let program = words(&self.command).and_then(|words| words.into_iter().next()).unwrap_or_default();
        let lacking = if !is_program(&program) {
            program
        } else {
            self.needs.iter().find(|path| !path.exists())?.display().to_string()
        };
        Some(match &self.install {
            Some(install) => format!("not installed: {install}"),
            None => format!("not installed: {lacking} is not there"),
        })
    }

    /// Installs it, if it is missing and says how to. Whether that has succeeded is seen when it is looked for.
    pub(crate) fn install(&self) {
        let Some(install) = self.install.as_ref().filter(|_| self.missing().is_some()) else { return };
        say(format_args!("\ninstalling {}: {install}", self.name));
        // What it says belongs to the progress of the run, not to its result.
        let status =
            Command::new("sh").args(["-c", install]).stdin(Stdio::null()).stdout(std::io::stderr()).status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => say(format_args!("{} could not be installed: {status}", self.name)),
            Err(error) => say(format_args!("{} could not be installed: sh: {error}", self.name)),
        }
    }

    pub(crate) fn url(&self, mechanism: &str, address: SocketAddr) -> String {
        mechanism::url(mechanism, self.path.as_deref(), address)
    }

    /// The command that makes it listen on `port`, with `prefix` before it.
    pub(crate) fn command(&self, port: u16, prefix: &[String]) -> Command {
        let words = words(&self.command).expect("it has been checked").into_iter();
        let mut words = prefix.iter().cloned().chain(words.map(|word| word.replace(PORT, &port.to_string())));
        let mut command = Command::new(words.next().expect("a command has a word"));
        command.args(words);
        command
    }
}

/// A port of 127.0.0.1 that nobody listens on.
pub(crate) fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A port of 127.0.0.1 that nobody listens on and that nobody is given who asks for any: a server that goes away can come back to it.
pub(crate) fn lasting_port() -> std::io::Result<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let first =
        range.and_then(|range| range.split_whitespace().next()?.parse().ok()).unwrap_or(FIRST_GIVEN_OUT);
    // Where everything is given out there is nothing better than what is free now.
    for _ in 0..if first > 2 * PRIVILEGED { TRIES } else { 0 } {
        let port = fastrand::u16(first / 2..first);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    free_port()
}

/// Whether a shell would find it.
fn is_program(name: &str) -> bool {
    if name.contains('/') {
        return Path::new(name).is_file();
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| folder.join(name).is_file())
}

fn first_line(command: &str, interrupt: &Interrupt) -> Option<String> {
    let process = Process::start(Command::new("sh").args(["-c", command]), &[]).ok()?;
    let deadline = Instant::now() + VERSION_PATIENCE;
    while Instant::now() < deadline && !interrupt.triggered() {
        match process.next_line() {
            Next::Line(line) => return Some(line.text.trim().to_owned()).filter(|text| !text.is_empty()),
            Next::Nothing => {}
            Next::End => break,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Result<Vec<ExternalServer>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, text).unwrap();
        read(path.to_str().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_server_can_come_back_to_its_port() {
        let port = lasting_port().unwrap();
        let any: Vec<TcpListener> =
            (0..100).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        assert!(any.iter().all(|listener| listener.local_addr().unwrap().port() != port));
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    }

    #[test]
    fn three_lines_are_enough() {
        let [mine] =
            &servers("[[server]]\nname = \"mine\"\ncommand = \"sh -c 'exec ./mine {port}'\"\n").unwrap()[..]
        else {
            panic!("one server");
        };
        assert_eq!(mine.url("echo", ([127, 0, 0, 1], 80).into()), "ws://127.0.0.1:80/echo");
        let command = mine.command(81, &["strace".to_owned()]);
        let words: Vec<&str> = command.get_args().filter_map(|word| word.to_str()).collect();
        assert_eq!(
            (command.get_program().to_str(), words),
            (Some("strace"), vec!["sh", "-c", "exec ./mine 81"])
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_the_name_of_the_server() {
        let server = |rest: &str| format!("[[server]]\nname = \"mine\"\n{rest}\n");
        for (text, reason) in [
            ("", "has no [[server]]"),
            (&*server("command = \"mine\""), "`mine`: its command has no {port}"),
            (&*server("command = \"mine '{port}\""), "`mine`: its command has a quote"),
            (&*server("command = \"mine {port}\"\npath = \"echo\""), "`mine`: its path has to begin with /"),
            (&*server("command = \"mine {port}\"\nspeaks = [\"eco\"]"), "did you mean `echo`?"),
            (&*server("command = \"mine {port}\"\nspeaks = [\"udp-echo\"]"), "udp-echo is for models only"),
            (&*server("comand = \"mine {port}\""), "did you mean `command`?"),
            (&*server("command = \"mine {port}\"").repeat(2), "`mine` stands twice"),
            ("[[server]]\nname = \"epoll\"\ncommand = \"x {port}\"", "a model has this name already"),
            ("[[server]]\nname = \"a b\"\ncommand = \"x {port}\"", "a name is one word"),
        ] {
            let error = servers(text).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn what_is_not_installed_says_how_to_get_it() {
        let missing = |text: &str| servers(text).unwrap().remove(0).find(&Interrupt::new()).missing;
        let no_such = "[[server]]\nname = \"mine\"\ncommand = \"no-such-program {port}\"\n";
        assert_eq!(missing(no_such).unwrap(), "not installed: no-such-program is not there");
        let with_hint = format!("{no_such}install = \"make it\"\n");
        assert_eq!(missing(&with_hint).unwrap(), "not installed: make it");
        let needs = "[[server]]\nname = \"mine\"\ncommand = \"sh {port}\"\nneeds = [\"no/such/file\"]\n";
        assert_eq!(missing(needs).unwrap(), "not installed: no/such/file is not there");
        let there =
            "[[server]]\nname = \"mine\"\ncommand = \"sh {port}\"\nversion = \"echo 1.2; echo more\"\n";
        let found = servers(there).unwrap().remove(0).find(&Interrupt::new());
        assert_eq!((found.missing, found.found.as_deref()), (None, Some("1.2")));
    }
}
