//! The pages as people use them, in headless Chromium: `tests/browser/pages` at the root of the repository.

use std::env;
use std::process::Command;

use switchboard_models::MODELS;

mod needs;
mod node;

/// One of each way to hold what all connections share: in a parent process, behind a lock, in a loop, among tasks; and one without anything to share.
const TRIED: [&str; 7] = ["fork", "threads", "poll", "epoll", "tokio", "uring", "iterative"];

fn main() {
    let missing = node::missing(&node::folder("browser")).or_else(missing_chromium).map(|missing| {
        format!(
            "{missing}: install Node 20 or newer and Chromium (Debian: `apt-get install chromium`, or $CHROMIUM names it), then `npm ci \
             --prefix tests/browser`"
        )
    });
    needs::run(vec![needs::trial("people_can_use_the_pages_in_a_browser", missing, check)]);
}

fn check() {
    let browser = node::folder("browser");
    let model = |name: &&str| MODELS.iter().find(|model| model.name == *name);
    let is_possible = |name: &&str| model(name).is_some_and(|model| (model.obstacle)().is_none());
    let models: Vec<&str> = TRIED.into_iter().filter(is_possible).collect();
    // One process and one browser for all of them, one model after the other: five tabs are as much as two cores carry.
    if let Err(said) = node::run(&browser.join("pages/all.mjs"), &models) {
        panic!("\n{said}");
    }
}

fn missing_chromium() -> Option<&'static str> {
    let chromium = env::var("CHROMIUM").ok().filter(|path| !path.is_empty()).unwrap_or("chromium".to_owned());
    let output = Command::new(chromium).arg("--version").output();
    (!output.is_ok_and(|output| output.status.success())).then_some("there is no Chromium")
}
