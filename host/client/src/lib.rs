//! A client for Stator.
//!
//! ```no_run
//! # async fn cart() -> Result<(), stator_client::Error> {
//! use stator_client::Client;
//!
//! let client = Client::connect(["127.0.0.1:7101", "127.0.0.1:7201"])?;
//!
//! // A get keeps the causal context with the value: what is put back replaces what was read.
//! let mut cart = client.get("carts", "customer 7").await?;
//! let mut items = cart.value().map(|value| value.to_vec()).unwrap_or_default();
//! items.extend_from_slice(b"tea;");
//! cart.set(items);
//! client.put(cart).await?;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/conflict.rs` is a whole program: two writers who know nothing of each other, and the
//! reader who settles it. It runs against a node of `stator serve`:
//! `cargo run -p stator-client --example conflict`.
//!
//! # What is retried
//! Only what cannot do harm, until the deadline of the call ([`Options::timeout`]):
//!
//! | request | is sent again |
//! |---|---|
//! | gets, and reads of [`Admin`] | after any failure that may pass |
//! | writes without a request id | only if the first attempt certainly did nothing: no connection was made, or the node said `effect` = `NONE` |
//! | writes with [`Entry::request_id`] | also if the outcome of the first attempt is unknown: the nodes recognise the retry |
//!
//! What was received by a node is repeated at most once for every ten requests, beyond a hundred,
//! and ten a second: a cluster that is slow does not get slower by retries. Attempts go to another
//! node each, after a pause that grows and that the node can prolong (RetryInfo). What is finally
//! answered is an [`Error`] with the node's reason; its [`Error::effect`] tells whether a write may
//! be applied.
//!
//! # Who is asked
//! Any node takes any request. A [`Client`] that can dial all nodes learns the ring from one of them,
//! in the background, and sends a request to an owner of its key: the one that answered fastest
//! lately, another one if that fails, and an endpoint if no owner is known or answers. With
//! [`Coordination::Client`] it coordinates gets itself.
//!
//! ```no_run
//! # use stator_client::{Client, Coordination, Error, Options};
//! # async fn cart() -> Result<(), Error> {
//! let mut options = Options::default();
//! options.coordination = Coordination::Client; // Owner unless set; Any asks the endpoints in turn
//! let client = Client::plain(["127.0.0.1:7101", "127.0.0.1:7201"], options)?;
//!
//! let mut cart = client.get("carts", "customer 7").await?;
//! let mut items = cart.value().map(|value| value.to_vec()).unwrap_or_default();
//! items.extend_from_slice(b"tea;");
//! cart.set(items); // in place of what was read
//! client.put(cart).await?;
//! # Ok(())
//! # }
//! ```
//!
//! With TLS take [`Client::connect_with`], and a function that makes a channel of an address.
//!
//! Left out: choosing nodes by zone, other than by how fast they answer.

mod admin;
mod budget;
mod client;
mod entry;
mod error;
mod join;
mod line;
mod nodes;
mod options;
mod pace;
mod pages;
mod peer;
mod replicas;
mod retry;
mod ring;
mod routes;
mod watch;

pub use admin::Admin;
pub use client::{Client, Written};
pub use entry::{Entry, Merge, Version};
pub use error::{Effect, Error, Violation};
pub use nodes::plain;
pub use options::{Coordination, Options, Token, Traceparent};
pub use pages::{Export, Listing, ObjectPage};
/// The messages of the interface, for what the types of this crate do not cover.
pub use stator_proto::v1;
pub use watch::{Changed, Event, Watch, Watching};
