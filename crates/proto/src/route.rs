//! What stands under which path.

use crate::App;
use crate::http::{Answer, Method, Request, Upgrade};

/// What a path serves once the connection is a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// `/echo`: every data message comes back.
    Echo,
    /// `/broadcast`: every data message goes to everyone here.
    Broadcast,
}

/// The room that `request` asks for, with the proof that this was understood; or the answer.
pub(crate) fn route(request: &Request, app: &App) -> Result<(Room, String), Answer> {
    let path = &request.path[..];
    let room = match path {
        "/" => None,
        "/echo" => Some(Room::Echo),
        "/broadcast" => Some(Room::Broadcast),
        _ => return Err(Answer::new(404, "Not here. There are /, /echo and /broadcast.\n")),
    };
    if !matches!(request.method, Method::Get | Method::Head) {
        return Err(Answer::method_not_allowed(&request.method, "GET, HEAD"));
    }
    let Some(room) = room else { return Err(Answer::html(200, page(app))) };
    match &request.upgrade {
        Upgrade::WebSocket { accept } => Ok((room, accept.clone())),
        Upgrade::Refused(answer) => Err(Answer::clone(answer)),
        Upgrade::None => {
            let text = format!("{path} is a WebSocket: ask for it with Upgrade: websocket.\n");
            Err(Answer::upgrade_required(text))
        }
    }
}

fn page(app: &App) -> String {
    let heartbeat = match app.heartbeat {
        Some(period) => format!("after {period:?} of silence"),
        None => "off".into(),
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Switchboard: {model}</title></head>\n\
         <body><h1>Switchboard</h1>\n<p>Model: <b>{model}</b></p>\n<ul>\n\
         <li><code>/echo</code>: a WebSocket that returns every message</li>\n\
         <li><code>/broadcast</code>: a WebSocket on which every message goes to everyone there</li>\n</ul>\n\
         <p>Longest message: {max} bytes. Heartbeat: {heartbeat}.</p>\n</body></html>\n",
        model = app.served_by,
        max = app.max_message_bytes,
    )
}
