//! Echo and broadcast on tokio-tungstenite: `server PORT`. What a client sends to /echo comes back, what it sends to /broadcast goes to all there.

use std::io;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let argument = std::env::args().nth(1).unwrap_or_default();
    if argument == "--version" {
        println!("tokio-tungstenite {}", version("tokio-tungstenite"));
        return Ok(());
    }
    let port: u16 = argument.parse().map_err(io::Error::other)?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let (published, _) = broadcast::channel(1024);
    loop {
        let (stream, _) = listener.accept().await?;
        // An error ends this connection and nothing else.
        tokio::spawn(serve(stream, published.clone()));
    }
}

async fn serve(stream: TcpStream, published: broadcast::Sender<Message>) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let mut is_broadcast = false;
    let look = |request: &Request, response: Response| {
        is_broadcast = request.uri().path() == "/broadcast";
        Ok(response)
    };
    let socket = accept_hdr_async(stream, look).await?;
    if is_broadcast { share(socket, published).await } else { echo(socket).await }
}

async fn echo(mut socket: WebSocketStream<TcpStream>) -> Result<(), Error> {
    while let Some(message) = socket.next().await.transpose()? {
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn share(
    mut socket: WebSocketStream<TcpStream>,
    published: broadcast::Sender<Message>,
) -> Result<(), Error> {
    let mut receiver = published.subscribe();
    loop {
        tokio::select! {
            message = socket.next() => match message.transpose()? {
                // It succeeds: this connection receives as well.
                Some(message) if message.is_text() || message.is_binary() => drop(published.send(message)),
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
