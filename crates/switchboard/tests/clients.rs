//! Real clients, the npm packages that people use, against every model: `tests/clients` at the root of the repository.

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use switchboard_models::{MODELS, Mechanism, Model};

/// Models that are tried at the same time: what takes long in a case is waiting.
const AT_ONCE: usize = 2;

#[test]
fn real_clients_cannot_tell_a_model_from_the_server_that_they_know() {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients");
    if let Some(missing) = missing(&clients) {
        let how = "install Node 20 or newer, then `npm ci --prefix tests/clients`";
        // Not by a macro, whose output is kept from whoever runs tests that pass.
        let _ = writeln!(std::io::stderr(), "real clients are not tried, {missing}: {how}");
        return;
    }
    let speaks =
        |model: &&Model| [Mechanism::Http, Mechanism::Echo].iter().any(|one| model.serves.contains(one));
    let is_possible = |model: &&Model| (model.obstacle)().is_none();
    let models = MODELS.iter().filter(|model| !model.hidden).filter(speaks).filter(is_possible);
    let models = Mutex::new(models.collect::<VecDeque<_>>());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(model) = { models.lock().unwrap().pop_front() } {
                    if let Err(said) = try_clients(&clients, model) {
                        failures.lock().unwrap().push(said);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// What the clients need that is not there.
fn missing(clients: &Path) -> Option<&'static str> {
    let output = Command::new("node").arg("--version").output();
    let version = output.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let major =
        version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        None => Some("there is no Node"),
        Some(..20) => Some("Node is too old for their packages"),
        Some(_) if !clients.join("node_modules").is_dir() => Some("their packages are not installed"),
        Some(_) => None,
    }
}

/// Runs all cases that the model can serve, in one process of Node, which starts the servers.
fn try_clients(clients: &Path, model: &Model) -> Result<(), String> {
    let output = Command::new("node")
        .arg(clients.join("all.mjs"))
        .arg(model.name)
        .env("SWITCHBOARD", env!("CARGO_BIN_EXE_switchboard"))
        .output()
        .map_err(|error| format!("{}: node: {error}", model.name))?;
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr))),
    }
}
