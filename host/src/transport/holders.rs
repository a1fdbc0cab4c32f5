//! Who of those that say they are a member is served as it: core's [`Holders`], asked by the tasks
//! of the transport. The dialler tells it whom it found where, the acceptor who asks.

use std::sync::atomic::Ordering;

use stator_core::holder::{Dialled, Found, Holder, Intruder, Standing, Where};
use stator_core::id::{Incarnation, NodeId};

use super::handshake::{HandshakeError, Hello, Refusal};
use super::{Shared, lock, read};

impl Shared {
    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Takes in what the catalogue says.
    pub fn learn_holders(&self, holders: impl Iterator<Item = (NodeId, u64, Holder)>) {
        let now_ms = self.now_ms();
        let mut known = lock(&self.holders);
        holders.for_each(|(node, version, holder)| known.learn(now_ms, node, version, holder));
    }

    /// Whether this start is the node.
    pub fn is_holder(&self, node: NodeId, incarnation: Incarnation) -> bool {
        lock(&self.holders).is_holder(node, incarnation)
    }

    /// Whether there is a session with the node's holder.
    pub fn is_connected(&self, node: NodeId) -> bool {
        let sessions = read(&self.sessions);
        sessions.get(&node).is_some_and(|session| self.is_holder(node, session.incarnation))
    }

    /// A process dialled this node and proved itself.
    pub fn let_in(&self, hello: &Hello) -> Result<(), Refusal> {
        let node = hello.node;
        let is_connected = self.is_connected(node);
        let standing = lock(&self.holders).asks(self.now_ms(), node, &hello.process, is_connected);
        match standing {
            // The connection that the smaller id dialled is kept.
            Standing::Held if is_connected && node > self.me => Err(Refusal::Connected(node)),
            Standing::Held => Ok(()),
            Standing::Asking => {
                self.asked.send_modify(|count| *count += 1);
                Err(Refusal::NotKnownYet(node))
            }
            Standing::Refused(holder) => Err(Refusal::SecondHolder { node, holder }),
        }
    }

    /// A process answered where a member was dialled, and proved itself.
    pub fn answered(&self, hello: &Hello, place: Where<'_>) -> Result<(), Refusal> {
        let node = hello.node;
        let found = Found::Process(hello.process.clone());
        let dialled = lock(&self.holders).dialled(self.now_ms(), node, place, found);
        let Dialled { decided, standing } = dialled;
        if let Some(holder) = decided {
            tracing::warn!(peer = %node, incarnation = %holder.incarnation,
                address = holder.peer_address, "a member is served by another process than before");
            self.sink.holder_found(node, holder);
        }
        match standing {
            Standing::Held => Ok(()),
            Standing::Asking => Err(Refusal::NotKnownYet(node)),
            Standing::Refused(holder) => Err(Refusal::SecondHolder { node, holder }),
        }
    }

    /// An address was dialled in vain.
    pub fn not_found(&self, node: NodeId, asked: Option<&Holder>, error: &HandshakeError) {
        let found = match error {
            HandshakeError::TooSlow => Found::Silence,
            HandshakeError::Unreachable(_)
            | HandshakeError::Broken(_)
            | HandshakeError::Refused(Refusal::OtherNode { .. }) => Found::Nobody,
            _ => return,
        };
        let place = asked.map_or(Where::Known, Where::Named);
        lock(&self.holders).dialled(self.now_ms(), node, place, found);
    }

    /// Who is to be dialled at the address that it names itself.
    pub fn asking(&self, node: NodeId) -> Option<Holder> {
        let is_alive = self.sink.is_alive(node) || self.is_connected(node);
        lock(&self.holders).to_dial(self.now_ms(), node, is_alive)
    }

    /// Who was refused lately because another process is the node.
    pub fn intruders(&self) -> Vec<Intruder> {
        lock(&self.holders).intruders(self.now_ms())
    }

    /// What this node says of itself.
    pub fn own_process(&self) -> Holder {
        let incarnation = self.incarnation;
        Holder { incarnation, ..self.config.advertised.clone() }
    }

    /// A probe with this node's start before it.
    pub fn stamped(&self, probe: &[u8]) -> Vec<u8> {
        [&self.incarnation.0.to_be_bytes()[..], probe].concat()
    }

    /// The probe, if its sender is the node it says it is.
    pub fn of_holder<'a>(&self, from: NodeId, stamped: &'a [u8]) -> Option<&'a [u8]> {
        let (incarnation, probe) = stamped.split_first_chunk()?;
        let incarnation = Incarnation(u64::from_be_bytes(*incarnation));
        if self.is_holder(from, incarnation) {
            return Some(probe);
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
        None
    }
}
