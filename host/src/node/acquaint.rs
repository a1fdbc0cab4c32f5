//! Looking for those with whom there is no session, and asking them who they are.
//!
//! A session needs two nodes that know each other as members at the addresses where they are. This
//! task helps where that is not so: it asks whoever should have a session and has none, again and
//! again. So a node that was removed from its cluster hears it from the first member that it
//! reaches, whoever dials whom; a member that has not learnt that it is one is told; and a node
//! that has promised to join a cluster learns what became of it. While anyone is missed the `seeds`
//! of the configuration are asked too: who moved is met there, and dialled where it was met. An
//! introduction tells both sides, so one that knows another is enough for a cluster of which all
//! addresses are other ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use stator_core::catalogue::Catalogue;
use stator_core::id::NodeId;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::Node;
use crate::address::HostPort;
use crate::transport::setup::{Introduced, Introduction, SetupError};

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a start waits for the first member that answers: a node that was removed meanwhile is
/// told before it serves anyone.
const START_WAIT: Duration = Duration::from_secs(1);
/// How long a session with who was just met is waited for.
const CONNECT_WAIT: Duration = Duration::from_secs(3);
/// How long one node may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Runs until the node is gone or was removed. `lost` tells that a session or an attempt failed.
pub(super) async fn run(node: Weak<Node>, lost: Arc<Notify>) {
    // Half a period to all of it, so that nodes that lost one another do not look together.
    let mut said = BTreeMap::new();
    loop {
        let percent = 50 + getrandom::u32().unwrap_or(0) % 51;
        let _ = timeout(PERIOD * percent / 100, lost.notified()).await;
        let Some(node) = node.upgrade() else { return };
        if node.was_removed() {
            return;
        }
        node.look_around(&mut said).await;
        // Failures come in swarms.
        sleep(PERIOD / 10).await;
    }
}

impl Node {
    /// The ring with which this node was removed from its cluster, if it was.
    pub fn removed_with(&self) -> Option<u64> {
        Some(self.catalogue()?.removed.get(&self.id)?.ring_version)
    }

    fn was_removed(&self) -> bool {
        self.removed_with().is_some()
    }

    /// Where someone is with whom there should be a session, or who knows what became of a promise.
    fn missed(&self) -> BTreeMap<NodeId, String> {
        let mut missed: BTreeMap<NodeId, String> = match (self.catalogue(), self.promise()) {
            (Some(catalogue), _) => {
                let members = catalogue.members.iter();
                members.map(|(node, member)| (*node, member.value.peer_address.clone())).collect()
            }
            (None, Some(promise)) => promise.nodes,
            (None, None) => BTreeMap::new(),
        };
        missed.remove(&self.id);
        self.transport.connected().iter().for_each(|peer| drop(missed.remove(peer)));
        missed
    }

    /// Asks everyone who is missed, and the seeds. `said` holds what was logged of each seed, so
    /// that it is said once.
    async fn look_around(&self, said: &mut BTreeMap<String, String>) {
        if self.promise().is_some() {
            self.settled().await;
        }
        let missed = self.missed();
        let is_complete = missed.is_empty() && self.catalogue().is_some();
        let seeds: Vec<String> = match is_complete {
            true => Vec::new(),
            false => self.config.seeds.iter().map(HostPort::to_string).collect(),
        };
        let addresses: BTreeSet<&String> = missed.values().chain(&seeds).collect();
        let mut asked: FuturesUnordered<_> =
            addresses.into_iter().map(|address| self.ask(address)).collect();
        while let Some((address, found)) = asked.next().await {
            match found {
                Ok(_) => drop(said.remove(address)),
                // Of a member at the address that it had the dialler tells.
                Err(error) if seeds.iter().any(|seed| seed == address) => {
                    let words = error.to_string();
                    if said.insert(address.to_owned(), words.clone()).is_none_or(|w| w != words) {
                        tracing::warn!(seed = address, words, "nobody is found at a seed");
                    }
                }
                Err(_) => {}
            }
        }
    }

    async fn ask<'a>(&self, address: &'a str) -> (&'a str, Result<Introduction, SetupError>) {
        (address, self.meet(address).await)
    }

    /// Asks who is at `address`, and takes in what that tells.
    ///
    /// # Errors
    /// Nobody is there who knows the secret.
    pub async fn meet(&self, address: &str) -> Result<Introduction, SetupError> {
        let me = self.introduction();
        let met = timeout(ANSWER_WAIT, self.transport.introduce(address, &me)).await;
        let introduced = met.unwrap_or_else(|_| {
            let (address, why) = (address.to_owned(), "no answer".to_owned());
            Err(SetupError::Unreachable { address, why })
        })?;
        let who = introduced.who.clone();
        self.heard(introduced).await;
        self.met(&who, address);
        Ok(who)
    }

    /// Whether `who` is a member of this node's cluster, and connected; if it is a member, that is
    /// waited for a moment.
    pub async fn is_joined_by(&self, who: &Introduction) -> (bool, bool) {
        let is_known = |catalogue: Arc<Catalogue>| catalogue.members.contains_key(&who.node);
        if who.node == self.id || !self.catalogue().is_some_and(is_known) {
            return (who.node == self.id && self.catalogue().is_some_and(is_known), false);
        }
        let connected = async {
            while !self.transport.connected().contains(&who.node) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        (true, timeout(CONNECT_WAIT, connected).await.is_ok())
    }

    /// `who` answered at `address`, or says that it does. If it is a member, it is dialled there.
    pub(super) fn met(&self, who: &Introduction, address: &str) {
        let Some(catalogue) = self.catalogue() else { return };
        let is_ours = who.cluster == Some(catalogue.cluster) && who.node != self.id;
        if is_ours && address.parse::<HostPort>().is_ok() {
            self.transport.met(who.node, address);
        }
    }

    /// Takes in what a member tells that was asked who it is: that this node was removed.
    async fn heard(&self, introduced: Introduced) {
        let removal = introduced.removal.filter(|told| told.removed.contains_key(&self.id));
        let Some(removal) = removal.filter(|_| !self.was_removed()) else { return };
        tracing::error!(by = %introduced.who.node, "a member says that this node was removed");
        self.driver.adopt(Arc::new(removal));
        let mut catalogues = self.driver.shared().watch_catalogue();
        // If the loop has ended nobody is served anyway.
        let is_out = |catalogue: &Arc<Catalogue>| catalogue.removed.contains_key(&self.id);
        let _ = catalogues.wait_for(|catalogue| catalogue.as_ref().is_some_and(is_out)).await;
    }

    /// Before the first client is served: asks all members, and waits for the first that answers.
    pub(super) async fn greet(&self) {
        let missed = self.missed();
        let mut asked: FuturesUnordered<_> =
            missed.values().map(|address| self.ask(address)).collect();
        let first = async {
            while let Some((_, found)) = asked.next().await {
                if found.is_ok() {
                    return;
                }
            }
        };
        let _ = timeout(START_WAIT, first).await;
    }
}
