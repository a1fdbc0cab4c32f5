//! One node that requests go to, and what is known of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;

use crate::line::{Bears, Line};
use crate::pace::Pace;

/// Requests that take about as long as one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A coordinated get.
    Get,
    /// Of what the node itself holds.
    Replica,
    /// A put or delete.
    Write,
    /// Anything else.
    Other,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was answered, be it with a refusal of what was asked.
    Answered,
    /// The node could not do it.
    Failed,
    /// The node did not answer: it is asked nothing as an owner until it answers again.
    Silent,
}

/// A node.
#[derive(Debug)]
pub(crate) struct Peer {
    /// HOST:PORT, or empty if the caller made the channel.
    pub(crate) address: String,
    pub(crate) channel: Line,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    paces: [Pace; 4],
    is_silent: bool,
}

impl Peer {
    pub(crate) fn new(address: String, channel: Channel) -> Self {
        Peer { address, channel: Line::new(channel), state: Mutex::default() }
    }

    /// The same with requests that bear this.
    pub(crate) fn bearing(self, bears: Bears) -> Self {
        Peer { channel: self.channel.bearing(bears), ..self }
    }

    /// A request of this kind is sent now.
    pub(crate) fn ask(&self, kind: Kind) -> Asked<'_> {
        self.state().paces[kind as usize].asked();
        Asked { peer: self, kind, started: Instant::now(), is_ended: false }
    }

    /// What one more request costs; `None` if the node is silent.
    pub(crate) fn cost(&self, kind: Kind, now: Instant) -> Option<f64> {
        let state = self.state();
        (!state.is_silent).then(|| state.paces[kind as usize].cost(now))
    }

    /// After what time without an answer another node is to be asked too.
    pub(crate) fn patience(&self, kind: Kind) -> Duration {
        self.state().paces[kind as usize].patience()
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.state().is_silent
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request on its way. Dropped before its end it was given up.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    peer: &'a Peer,
    kind: Kind,
    started: Instant,
    is_ended: bool,
}

impl Asked<'_> {
    /// How long it has taken so far.
    pub(crate) fn took(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn end(self, outcome: Outcome) {
        let took = self.took();
        self.end_after(took, outcome);
    }

    fn end_after(mut self, took: Duration, outcome: Outcome) {
        self.is_ended = true;
        let now = Instant::now();
        let mut state = self.peer.state();
        state.is_silent = outcome == Outcome::Silent;
        let pace = &mut state.paces[self.kind as usize];
        match outcome {
            Outcome::Answered => pace.answered(now, took),
            Outcome::Failed | Outcome::Silent => pace.failed(now, took),
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.is_ended {
            let (now, took) = (Instant::now(), self.took());
            self.peer.state().paces[self.kind as usize].given_up(now, took);
        }
    }
}

/// Those of `peers` that answer, by what one more request of this kind costs them.
pub(crate) fn by_cost<P: AsRef<Peer>>(peers: impl IntoIterator<Item = P>, kind: Kind) -> Vec<P> {
    let now = Instant::now();
    let with_cost = |peer: P| peer.as_ref().cost(kind, now).map(|cost| (cost, peer));
    let mut costs: Vec<(f64, P)> = peers.into_iter().filter_map(with_cost).collect();
    // Those that cost the same stay in the order of the preference list.
    costs.sort_by(|a, b| a.0.total_cmp(&b.0));
    costs.into_iter().map(|(_, peer)| peer).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn peers() -> Vec<Arc<Peer>> {
        let peer = |number| {
            let channel = crate::nodes::plain("127.0.0.1:1").expect("an address");
            Arc::new(Peer::new(format!("node {number}"), channel))
        };
        (0..3).map(peer).collect()
    }

    fn order(peers: &[Arc<Peer>]) -> Vec<&str> {
        by_cost(peers, Kind::Get).into_iter().map(|peer| &peer.address[5..]).collect()
    }

    #[tokio::test]
    async fn the_fastest_is_asked_first_and_a_silent_one_not_at_all() {
        let peers = peers();
        assert_eq!(order(&peers), ["0", "1", "2"], "nothing is known");
        for (peer, took_ms) in peers.iter().zip([40, 10, 20]) {
            peer.ask(Kind::Get).end_after(Duration::from_millis(took_ms), Outcome::Answered);
        }
        assert_eq!(order(&peers), ["1", "2", "0"]);
        let open = [peers[1].ask(Kind::Get), peers[1].ask(Kind::Get)];
        assert_eq!(order(&peers), ["2", "1", "0"], "it has enough to do");
        drop(open);
        peers[1].ask(Kind::Write).end(Outcome::Failed);
        assert_eq!(order(&peers), ["1", "2", "0"], "gets are another matter");
        peers[1].ask(Kind::Get).end(Outcome::Failed);
        peers[2].ask(Kind::Write).end(Outcome::Silent);
        assert_eq!(order(&peers), ["0", "1"]);
        peers[2].ask(Kind::Other).end(Outcome::Answered);
        assert_eq!(order(&peers), ["2", "0", "1"], "it answers again");
    }
}
