//! The accepting side: what becomes of the connections that others make.
//!
//! They come through the door that all listeners have ([`crate::listen`]). Until it has proved to
//! know the secret a connection is a stranger's: little of it is read, in short frames, and it ends
//! soon.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use stator_core::codec::Pieces;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::config::HANDSHAKE_DEADLINE;
use super::frame::{Frame, Link, PREFACE};
use super::handshake::{self, HandshakeError, Hello};
use super::{Shared, frame, session, setup};
use crate::listen::{Connection, Door, DoorLimits, Hold, Speech};
use crate::pause::Life;

/// What is read of a connection before its handshake: hello and proof are less.
const STRANGER_BYTES_MAX: usize = 64 << 10;
/// A refusal has this long to reach the other side before the connection goes.
const LINGER: Duration = Duration::from_millis(500);

/// What peers speak.
const SPEECH: Speech = Speech {
    preface: PREFACE,
    name: "the protocol between Stator nodes, from version 3 on, and nothing else",
    farewell: |why| {
        let reason = why.to_string();
        let refusal = Frame::Refusal(frame::Refusal { reason, process: None, passes: false });
        let mut out = Pieces::new();
        // A few words are no large frame.
        let _ = refusal.append_to(&mut out);
        out.to_vec()
    },
};

/// Accepts peers until `stop` is dropped or sent to.
pub(super) async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    mut stop: oneshot::Receiver<()>,
) {
    let config = &shared.config;
    let limits = DoorLimits { stranger_bytes_max: Some(STRANGER_BYTES_MAX), ..config.door.clone() };
    let door = Door::new("peers", SPEECH, limits, config.tls.clone());
    let mut connections = pin!(door.connections(listener));
    loop {
        let connection = tokio::select! {
            _ = &mut stop => return,
            next = connections.next() => next,
        };
        if let Some(Ok(connection)) = connection {
            shared.spawn(welcome(shared.clone(), connection));
        }
    }
}

/// What a connection turned out to be for.
enum Purpose {
    Session(Hello),
    Call,
}

async fn welcome(shared: Arc<Shared>, connection: Connection) {
    let life = Life::begin();
    let hold = connection.hold();
    let mut link = Link::new(Box::new(connection));
    let shaken = timeout(HANDSHAKE_DEADLINE, shake_hands(&shared, &mut link, &hold));
    match shaken.await.unwrap_or(Err(HandshakeError::TooSlow)) {
        Ok(Purpose::Session(hello)) => {
            session::run(&shared, (&hello, hello.node), link, life).await;
        }
        Ok(Purpose::Call) => setup::answer(&shared, &mut link).await,
        Err(error) => {
            shared.note_failed(None, &error);
            refuse(&shared, &mut link, &error).await;
        }
    }
}

async fn shake_hands(
    shared: &Shared,
    link: &mut Link,
    hold: &Hold,
) -> Result<Purpose, HandshakeError> {
    let purpose = match handshake::next(shared, link).await? {
        Frame::Hello(hello) => Purpose::Session(handshake::accept(shared, hello, link).await?),
        Frame::Call(opening) => {
            handshake::answer(shared, opening, link).await?;
            Purpose::Call
        }
        _ => return Err(HandshakeError::Missing("a hello")),
    };
    hold.trust();
    Ok(purpose)
}

/// Tells the other side why this node says no more, and gives that time to arrive.
pub(super) async fn refuse(shared: &Shared, link: &mut Link, error: &HandshakeError) {
    if shared.is_isolated() {
        return;
    }
    let farewell = async {
        if link.writer.send(&error.as_refusal()).await.is_ok() {
            link.writer.end().await;
            // Unread bytes would make the system reset the connection, and the words with it.
            while let Ok(Some(_)) = link.reader.next().await {}
        }
    };
    let _ = timeout(LINGER, farewell).await;
}
