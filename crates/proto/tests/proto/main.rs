//! The protocols as their peers see them: in virtual time, cut anywhere, and beside tungstenite.
//!
//! In reading order: `pair` connects a `Session` and a `Client`; `session`, `timers`, `http` and
//! `client` say what a user sees; `requests`, `bodies`, `answers` and `cors` hold HTTP to its RFCs, `websocket` the
//! assembler to its own; `keep_alive` and `delivery` are about what takes time: many requests on a connection, polls, event streams, the ticker; `splitting`, `splitting_http`, `splitting_delivery` and `output` are properties; `differential` compares with
//! tungstenite. `frames`, `script` and `reading` write bytes by hand for all of them.
//! `pages` is what people see, `entrances` what may be published, whichever way it comes.
//! `engine` is a server of Engine.IO sessions, and the modules with longer names say what its clients see; `judging` is about a server of several threads.

mod answers;
mod bodies;
mod budget;
mod client;
mod cors;
mod delivery;
mod differential;
mod engine;
mod engine_events;
mod engine_polling;
mod engine_random;
mod engine_socketio;
mod engine_websocket;
mod entrances;
mod frames;
mod http;
mod judging;
mod keep_alive;
mod leaving;
mod login;
mod output;
mod pages;
mod pair;
mod reading;
mod requests;
mod resuming;
mod script;
mod session;
mod splitting;
mod splitting_delivery;
mod splitting_http;
mod timers;
mod websocket;
