//! The protocols as their peers see them: in virtual time, cut anywhere, and beside tungstenite.
//!
//! In reading order: `pair` connects a `Session` and a `Client`; `session`, `timers`, `http` and
//! `client` say what a user sees; `websocket` holds the assembler to the RFC; `splitting` and `output` are properties;
//! `differential` compares with tungstenite. `frames` and `script` write bytes by hand for all of them. `engine` is a server of
//! Engine.IO sessions, and the modules with longer names say what its clients see.

mod client;
mod differential;
mod engine;
mod engine_events;
mod engine_polling;
mod engine_random;
mod engine_socketio;
mod engine_websocket;
mod frames;
mod http;
mod output;
mod pair;
mod script;
mod session;
mod splitting;
mod timers;
mod websocket;
