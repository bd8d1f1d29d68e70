//! Real clients, the npm packages that people use, against every model: `tests/clients` at the root of the repository.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::thread;

use switchboard_models::{MODELS, Mechanism, Model};

mod needs;
mod node;

/// Models that are tried at the same time: what takes long in a case is waiting.
const AT_ONCE: usize = 2;

fn main() {
    let missing = node::missing(&node::folder("clients"))
        .map(|missing| format!("{missing}: install Node 20 or newer, then `npm ci --prefix tests/clients`"));
    let name = "real_clients_cannot_tell_a_model_from_the_server_that_they_know";
    needs::run(vec![needs::trial(name, missing, check)]);
}

fn check() {
    let clients = node::folder("clients");
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
                    // All cases that the model can serve, in one process, which starts the servers.
                    if let Err(said) = node::run(&clients.join("all.mjs"), &[model.name]) {
                        failures.lock().unwrap().push(format!("{}: {said}", model.name));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
