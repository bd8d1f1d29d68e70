//! Computes the tag of every file that is served, so that no server has to: some of them are a new process for each connection.

// Cargo reads it.
#![allow(clippy::disallowed_macros)]

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Bytes of the digest that make a tag: enough that no two versions of a file ever share one.
const TAG_BYTES: usize = 12;

fn main() {
    let out = std::env::var_os("OUT_DIR").expect("cargo names the folder");
    for folder in ["web", "vendor"] {
        println!("cargo::rerun-if-changed={folder}");
        write_tags(Path::new(folder), &Path::new(&out).join(folder));
    }
}

/// Writes `NAME.etag` for each file in `from` and below.
fn write_tags(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder for what is made can be written");
    for entry in fs::read_dir(from).expect("the folder is part of the crate") {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().expect("a file has a name").to_str().expect("names here are ASCII");
        if path.is_dir() {
            write_tags(&path, &to.join(name));
            continue;
        }
        let digest = Sha256::digest(fs::read(&path).expect("the file can be read"));
        let hex: String = digest[..TAG_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(to.join(format!("{name}.etag")), format!("\"{hex}\"")).expect("the tag can be written");
    }
}
