//! Agreement under loss, repetition, reordering and crashes: never two values.
//!
//! A small world of its own: five acceptors, proposers that give up and begin anew, a bag of
//! messages of which any one is taken next, and crashes that lose everything but what was
//! persisted. Every value that some attempt saw chosen must be the same one. The same world with
//! acceptors that forget what they promised must show that it would find two.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stator_core::agreement::{Acceptor, Answer, Ask, Ballot, Proposer, Step};
use stator_core::id::NodeId;

const INSTANCE: u64 = 7;
const STEPS: usize = 400;

enum Message {
    Ask(NodeId, NodeId, Ask<u64>),
    Answer(NodeId, NodeId, Answer<u64>),
}

/// A node: an acceptor with what is on its disk, and perhaps an attempt.
struct Peer {
    acceptor: Acceptor<u64>,
    disk: Acceptor<u64>,
    attempt: Option<Proposer<u64>>,
    last_round: u64,
}

struct World {
    rng: ChaCha8Rng,
    peers: BTreeMap<NodeId, Peer>,
    messages: Vec<Message>,
    chosen: BTreeSet<u64>,
    is_forgetful: bool,
}

impl World {
    fn new(seed: u64, count: u64, is_forgetful: bool) -> Self {
        let peer = |node| {
            let peer = Peer {
                acceptor: Acceptor::default(),
                disk: Acceptor::default(),
                attempt: None,
                last_round: 0,
            };
            (NodeId(node), peer)
        };
        World {
            rng: ChaCha8Rng::seed_from_u64(seed),
            peers: (1..=count).map(peer).collect(),
            messages: Vec::new(),
            chosen: BTreeSet::new(),
            is_forgetful,
        }
    }

    fn any_peer(&mut self) -> NodeId {
        NodeId(self.rng.random_range(1..=self.peers.len() as u64))
    }

    fn begin(&mut self, node: NodeId) {
        let acceptors: BTreeSet<NodeId> = self.peers.keys().copied().collect();
        let peer = self.peers.get_mut(&node).unwrap();
        peer.last_round += 1;
        let ballot = Ballot { round: peer.last_round, node, nonce: self.rng.random() };
        peer.attempt = Some(Proposer::new(ballot, acceptors));
        self.ask(node);
    }

    fn ask(&mut self, node: NodeId) {
        let Some(attempt) = &self.peers[&node].attempt else { return };
        let (ask, unasked) = attempt.question();
        self.messages.extend(unasked.into_iter().map(|to| Message::Ask(node, to, ask.clone())));
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Ask(from, to, ask) => {
                let peer = self.peers.get_mut(&to).unwrap();
                if let Some(answer) = peer.acceptor.answer(INSTANCE, ask) {
                    if !self.is_forgetful {
                        peer.disk = peer.acceptor.clone();
                    }
                    self.messages.push(Message::Answer(to, from, answer));
                }
            }
            Message::Answer(from, to, answer) => {
                let peer = self.peers.get_mut(&to).unwrap();
                let Some(attempt) = &mut peer.attempt else { return };
                match attempt.answered_by(from, answer) {
                    Step::Wait => {}
                    // A value that says whose it is.
                    Step::Propose(found) => {
                        attempt.propose(found.unwrap_or(to.0));
                        self.ask(to);
                    }
                    Step::Chosen(value) => drop(self.chosen.insert(value)),
                    Step::Outbid(ballot) => peer.last_round = peer.last_round.max(ballot.round),
                }
            }
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..5 => {
                let node = self.any_peer();
                self.begin(node);
            }
            5..8 => {
                let node = self.any_peer();
                let peer = self.peers.get_mut(&node).unwrap();
                peer.acceptor = peer.disk.clone();
                peer.attempt = None;
                peer.last_round = 0;
            }
            8..12 => {
                let node = self.any_peer();
                self.ask(node);
            }
            _ if self.messages.is_empty() => {}
            fate => {
                let chosen = self.rng.random_range(0..self.messages.len());
                let message = self.messages.swap_remove(chosen);
                if fate < 25 {
                    return;
                }
                if fate < 35 {
                    let copy = match &message {
                        Message::Ask(from, to, ask) => Message::Ask(*from, *to, ask.clone()),
                        Message::Answer(from, to, answer) => {
                            Message::Answer(*from, *to, answer.clone())
                        }
                    };
                    self.messages.push(copy);
                }
                self.deliver(message);
            }
        }
    }
}

/// Which values were chosen in a run.
fn chosen(seed: u64, count: u64, is_forgetful: bool) -> BTreeSet<u64> {
    let mut world = World::new(seed, count, is_forgetful);
    (0..STEPS).for_each(|_| world.step());
    world.chosen
}

#[test]
fn no_run_chooses_two_values_and_most_choose_one() {
    for count in [1, 2, 3, 5] {
        let mut decided = 0;
        for seed in 0..600 {
            let values = chosen(seed, count, false);
            assert!(values.len() <= 1, "seed {seed}, {count} nodes: {values:?} were chosen");
            decided += values.len();
        }
        assert!(decided > 300, "{count} nodes: only {decided} of 600 runs chose anything");
    }
}

#[test]
fn acceptors_that_forget_what_they_promised_are_found_out() {
    let found = (0..600).find(|&seed| chosen(seed, 3, true).len() > 1);
    assert!(found.is_some(), "600 seeds of forgetful acceptors and never two values");
}

#[test]
fn an_acceptor_answers_for_no_earlier_instance_and_none_it_may_have_forgotten() {
    let low = Ballot { round: 1, node: NodeId(1), nonce: 1 };
    let mut acceptor: Acceptor<u64> = Acceptor::default();
    assert!(acceptor.answer(8, Ask::Accept(low, 1)).is_some());
    assert_eq!(acceptor.answer(7, Ask::Prepare(low)), None);
    let mut forgetful: Acceptor<u64> = Acceptor::forgetful_through(8);
    let answer = forgetful.answer(8, Ask::Prepare(low));
    assert_eq!(answer, None);
    let next = forgetful.answer(9, Ask::Prepare(low));
    assert!(matches!(next, Some(Answer::Promised { accepted: None, .. })), "{next:?}");
}
