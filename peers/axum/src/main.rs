//! Echo and broadcast on axum: `server PORT`. What a client sends to /echo comes back, what it sends to /broadcast goes to all there.

use std::io;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::broadcast;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let argument = std::env::args().nth(1).unwrap_or_default();
    if argument == "--version" {
        println!("axum {}, tungstenite {}", version("axum"), version("tungstenite"));
        return Ok(());
    }
    let port: u16 = argument.parse().map_err(io::Error::other)?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?.tap_io(|stream| {
        // Without it replies may wait for acknowledgements, which is all that could happen.
        let _ = stream.set_nodelay(true);
    });
    let (published, _) = broadcast::channel::<Message>(1024);
    let share_in = |upgrade: WebSocketUpgrade, State(published): State<broadcast::Sender<Message>>| async move {
        upgrade.on_upgrade(move |socket| async move { drop(share(socket, published).await) })
    };
    let router = Router::new()
        .route(
            "/echo",
            get(|upgrade: WebSocketUpgrade| async {
                upgrade.on_upgrade(|socket| async { drop(echo(socket).await) })
            }),
        )
        .route("/broadcast", get(share_in))
        .with_state(published);
    axum::serve(listener, router).await
}

async fn echo(mut socket: WebSocket) -> Result<(), axum::Error> {
    while let Some(message) = socket.recv().await.transpose()? {
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn share(mut socket: WebSocket, published: broadcast::Sender<Message>) -> Result<(), axum::Error> {
    let mut receiver = published.subscribe();
    loop {
        tokio::select! {
            message = socket.recv() => match message.transpose()? {
                // It succeeds: this connection receives as well.
                Some(message @ (Message::Text(_) | Message::Binary(_))) => drop(published.send(message)),
                Some(_) => {}
                None => return Ok(()),
            },
            Ok(message) = receiver.recv() => socket.send(message).await?,
        }
    }
}

/// The version of a crate in the lock file.
fn version(name: &str) -> &'static str {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let found = include_str!("../Cargo.lock").split_once(&entry).and_then(|(_, rest)| rest.split_once('"'));
    found.map_or("unknown", |(version, _)| version)
}
