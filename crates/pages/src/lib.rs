//! The pages that a server shows to people, and what they load: bytes in the binary, so that it needs no other file, and a page no other server.
//!
//! There is no code here that serves them; `switchboard-proto` does. Everything in `web/` is read as it stands, by the browser and by people: no build step
//! comes between the two. In reading order: `web/assets/mechanisms.js`, how a page hears what is published, in five ways; `link.js`, how it
//! survives bad weather; then the three pages, `home.js`, `chat.js`, `login.js` with `phone.js`.

/// A file as it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// The path under which it stands. Of a file of [`SOCKETIO_CLIENT`]: its name behind Socket.IO's path.
    pub path: &'static str,
    /// What it is, for the header field of that name.
    pub content_type: &'static str,
    /// A strong tag that follows from its content, with the quotes (RFC 9110, section 8.8.3).
    pub etag: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
}

impl File {
    /// Whether it is a page, and not something that a page loads.
    pub fn is_page(&self) -> bool {
        self.content_type == HTML
    }
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";

/// A file of this crate, served under another name.
macro_rules! file {
    ($path:literal, $type:ident, $file:literal) => {
        File {
            path: $path,
            content_type: $type,
            etag: include_str!(concat!(env!("OUT_DIR"), "/", $file, ".etag")),
            bytes: include_bytes!(concat!("../", $file)),
        }
    };
}

/// The pages, and what they load.
pub const FILES: &[File] = &[
    file!("/", HTML, "web/home.html"),
    file!("/chat", HTML, "web/chat.html"),
    file!("/login", HTML, "web/login.html"),
    file!("/login/phone", HTML, "web/phone.html"),
    file!("/assets/style.css", CSS, "web/assets/style.css"),
    file!("/assets/icon.svg", SVG, "web/assets/icon.svg"),
    file!("/assets/mechanisms.js", SCRIPT, "web/assets/mechanisms.js"),
    file!("/assets/link.js", SCRIPT, "web/assets/link.js"),
    file!("/assets/view.js", SCRIPT, "web/assets/view.js"),
    file!("/assets/lanes.js", SCRIPT, "web/assets/lanes.js"),
    file!("/assets/home.js", SCRIPT, "web/assets/home.js"),
    file!("/assets/outbox.js", SCRIPT, "web/assets/outbox.js"),
    file!("/assets/chat.js", SCRIPT, "web/assets/chat.js"),
    file!("/assets/login.js", SCRIPT, "web/assets/login.js"),
    file!("/assets/phone.js", SCRIPT, "web/assets/phone.js"),
];

/// Socket.IO's client as its own servers give it to browsers, under whatever path Socket.IO is. See `vendor/socket.io-client/README.md`.
pub const SOCKETIO_CLIENT: &[File] = &[
    file!("socket.io.js", SCRIPT, "vendor/socket.io-client/socket.io.js"),
    file!("socket.io.js.map", JSON, "vendor/socket.io-client/socket.io.js.map"),
    file!("socket.io.min.js", SCRIPT, "vendor/socket.io-client/socket.io.min.js"),
    file!("socket.io.min.js.map", JSON, "vendor/socket.io-client/socket.io.min.js.map"),
];

/// The file under `path`.
pub fn find(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

/// The file of Socket.IO's client with this name.
pub fn find_socketio_client(name: &str) -> Option<&'static File> {
    SOCKETIO_CLIENT.iter().find(|file| file.path == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// What stands between `before` and `after`, wherever it does.
    fn all_between<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
        text.split(before).skip(1).filter_map(|rest| rest.split(after).next()).collect()
    }

    #[test]
    fn every_file_has_its_path_and_its_tag() {
        let paths: HashSet<_> = FILES.iter().map(|file| file.path).collect();
        assert_eq!(paths.len(), FILES.len());
        let tags: HashSet<_> = FILES.iter().chain(SOCKETIO_CLIENT).map(|file| file.etag).collect();
        assert_eq!(tags.len(), FILES.len() + SOCKETIO_CLIENT.len(), "no two are alike");
        for tag in tags {
            let opaque = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap();
            assert!(opaque.len() == 24 && opaque.bytes().all(|byte| byte.is_ascii_hexdigit()), "{tag}");
        }
        assert!(find("/chat").unwrap().is_page() && !find("/assets/style.css").unwrap().is_page());
        assert!(find("/chat/").is_none() && find_socketio_client("socket.io.min.js").is_some());
    }

    #[test]
    fn nothing_that_is_written_is_left_unserved() {
        let mut written = Vec::new();
        for folder in ["web", "web/assets"] {
            let entries = std::fs::read_dir(format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap();
            written.extend(entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()));
        }
        for path in &written {
            let bytes = std::fs::read(path).unwrap();
            assert!(FILES.iter().any(|file| file.bytes == bytes), "{} is served nowhere", path.display());
        }
        assert_eq!(written.len(), FILES.len());
    }

    #[test]
    fn what_a_page_loads_is_here_and_nowhere_else() {
        for file in FILES {
            let text = std::str::from_utf8(file.bytes).unwrap();
            let mut loaded = Vec::new();
            if file.is_page() {
                loaded.extend(all_between(text, "src=\"", "\""));
                loaded.extend(all_between(text, "<link rel=\"stylesheet\" href=\"", "\""));
                loaded.extend(all_between(text, "<link rel=\"icon\" href=\"", "\""));
                assert!(loaded.len() >= 3, "{}: style, icon and script, not {loaded:?}", file.path);
                // What the policy about its content would keep from working.
                for inline in ["<style", " style=\"", " onclick=", "javascript:", "<script>"] {
                    assert!(!text.contains(inline), "{} has {inline}", file.path);
                }
            } else if file.content_type == SCRIPT {
                let from = all_between(text, " from './", "'");
                loaded.extend(from.iter().map(|name| {
                    FILES
                        .iter()
                        .map(|file| file.path)
                        .find(|path| path.strip_prefix("/assets/") == Some(name))
                        .unwrap_or(name)
                }));
                // Text from others is never markup.
                for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                    assert!(!text.contains(markup), "{} uses {markup}", file.path);
                }
            }
            for path in loaded {
                assert!(find(path).is_some(), "{} loads {path}, which is not here", file.path);
            }
            for elsewhere in ["https://", "http://"] {
                let addresses = all_between(text, elsewhere, "\"");
                let outside = addresses.iter().find(|address| !address.starts_with("www.w3.org/2000/svg"));
                assert_eq!(outside, None, "{} names another server", file.path);
            }
        }
    }
}
