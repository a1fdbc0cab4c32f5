//! The node's small files: each is saved whole, one after the other, and the core hears when it is
//! durable.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use stator_core::agreement::Acceptor;
use stator_core::catalogue::{Catalogue, Decision};
use stator_core::event::{Backlog, Epochs, Event, Token};
use stator_core::ring::MadeMoves;
use tokio::sync::mpsc::UnboundedReceiver;

use super::inbox::Inbox;
use crate::storage::{Area, Home, HomeError, Stores};
use crate::telemetry::vital::Vital;

/// The file in the data directory that holds the catalogue.
pub const CATALOGUE_FILE: &str = "catalogue";
/// The file in the data directory that holds the moves that were made since the catalogue was
/// saved.
pub const MOVES_FILE: &str = "moves";
/// The file in the data directory that holds what the node promised for the next ring.
pub const BALLOT_FILE: &str = "ballot";
/// The file in the data directory that holds what is left of a partition fill.
pub const FILL_FILE: &str = "fill";
/// The file in the data directory that holds the send epochs.
pub const EPOCHS_FILE: &str = "epochs";
/// What is kept in small files, one after the other.
pub(super) enum Persist {
    Catalogue(Token, Arc<Catalogue>),
    Moves(Token, MadeMoves),
    Ballot(Token, Box<Acceptor<Arc<Decision>>>),
    Fill(Token, Backlog),
    Epochs(Token, Epochs),
}

pub(super) async fn persist_all(
    (home, stores): (Arc<Home>, Weak<Stores>),
    inbox: Inbox,
    mut all: UnboundedReceiver<Persist>,
) {
    let _vital = Vital("what keeps the node's small files");
    while let Some(next) = all.recv().await {
        match next {
            Persist::Catalogue(token, catalogue) => {
                let home = home.clone();
                let save = move || {
                    home.save(CATALOGUE_FILE, &catalogue.encode())?;
                    // They are in it. What stays behind says nothing new.
                    home.remove(MOVES_FILE)
                };
                let result = blocking(save).await;
                if let Err(error) = &result {
                    tracing::error!(%error, "the catalogue could not be persisted");
                }
                inbox.deliver(Event::Persisted(token, result));
            }
            Persist::Moves(token, made) => {
                let home = home.clone();
                let append = move || home.append(MOVES_FILE, made.encode().as_bytes());
                let result = blocking(append).await;
                if let Err(error) = &result {
                    tracing::error!(%error, "moves could not be persisted: they are tried again, \
                                             and nobody is told of them");
                }
                inbox.deliver(Event::Persisted(token, result));
            }
            Persist::Ballot(token, ballot) => {
                let result = save(&home, BALLOT_FILE, move || ballot.encode()).await;
                if let Err(error) = &result {
                    tracing::error!(%error, "a promise for the next ring could not be persisted, \
                                             and is not given");
                }
                inbox.deliver(Event::BallotPersisted(token, result));
            }
            Persist::Epochs(token, epochs) => {
                let result = save(&home, EPOCHS_FILE, move || epochs.encode().into_bytes()).await;
                if let Err(error) = &result {
                    tracing::error!(%error, "send epochs could not be persisted: a round of \
                                             collection waits");
                }
                inbox.deliver(Event::Persisted(token, result));
            }
            Persist::Fill(token, backlog) => {
                let is_filled = backlog.left.as_ref().is_some_and(BTreeSet::is_empty);
                let mut result =
                    save(&home, FILL_FILE, move || backlog.encode().into_bytes()).await;
                if let (true, true, Some(stores)) = (is_filled, result.is_ok(), stores.upgrade()) {
                    result = blocking(move || stores.refilled(Area::Data)).await;
                }
                if let Err(error) = &result {
                    tracing::error!(%error, "what is left of a fill could not be persisted: what \
                                             makes this node an owner waits for it");
                }
                inbox.deliver(Event::Persisted(token, result));
            }
        }
    }
}

async fn save(
    home: &Arc<Home>,
    name: &'static str,
    content: impl FnOnce() -> Vec<u8> + Send + 'static,
) -> Result<(), String> {
    let home = home.clone();
    blocking(move || home.save(name, &content())).await
}

async fn blocking(
    work: impl FnOnce() -> Result<(), HomeError> + Send + 'static,
) -> Result<(), String> {
    let done = tokio::task::spawn_blocking(move || work().map_err(|error| error.to_string()));
    done.await.unwrap_or_else(|error| Err(error.to_string()))
}
