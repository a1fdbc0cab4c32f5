//! The devices at work.
//!
//! Every cart lives from the first to the last change: of all carts that wait, the one that is
//! least far with its rounds goes on next. So the cut, which lasts from 40 to 60 of 100 changes,
//! meets all of them. Within a cart the rounds are in order; each round is done on both
//! keyspaces at the same time, and each keyspace has devices with a memory of their own.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::KEYSPACES;
use super::cart::Cart;
use super::client::{NodeClient, Read, ReadError};
use super::oplog::{Added, Operation, Outcome, Put, Record, Removed};
use super::plan::{self, CartPlan, Change, Round, Step};
use super::progress::Progress;

/// The node that is cut off.
const CUT_NODE: usize = 2;
/// When the cut begins and ends, in percent of all changes.
const CUT_PERCENT: [usize; 2] = [40, 60];
/// How often a device tries to read, and how long it pauses between.
const READ_TRIES: usize = 30;
const READ_PAUSE: Duration = Duration::from_millis(100);

/// A replay of plans on a cluster.
pub struct Run {
    clients: Vec<NodeClient>,
    seed: u64,
    progress: Progress,
    waiting: Mutex<BinaryHeap<Reverse<CartRun>>>,
    steps_done: AtomicUsize,
    /// After how many steps the cut begins and ends.
    cut_at: [usize; 2],
    /// By keyspace.
    logs: [Mutex<Vec<Record>>; 2],
}

/// A cart on its way. The one with the lowest `position` goes on next.
struct CartRun {
    /// How far the cart is: the share of its rounds that are done, then its place in the file.
    position: (u64, usize),
    plan: CartPlan,
    rounds_done: usize,
    lanes: [Lane; 2],
}

/// A cart's devices in one keyspace.
struct Lane {
    keyspace: usize,
    /// The adds that each device has seen: it decides once whether to take one out.
    seen: [HashSet<String>; 2],
}

/// A change that is made but not written.
struct Prepared {
    device: usize,
    value: Vec<u8>,
    context: Bytes,
    added: Vec<Added>,
    removed: Vec<Removed>,
}

impl Run {
    /// A replay of `plans` through `clients`, in the order of the nodes.
    pub fn new(
        clients: &[NodeClient],
        plans: Vec<CartPlan>,
        seed: u64,
        progress: Progress,
    ) -> Self {
        let steps: usize = plans.iter().map(CartPlan::steps).sum();
        let carts =
            plans.into_iter().enumerate().map(|(index, plan)| Reverse(CartRun::new(index, plan)));
        Run {
            clients: clients.to_vec(),
            seed,
            progress,
            waiting: Mutex::new(carts.collect()),
            steps_done: AtomicUsize::new(0),
            cut_at: CUT_PERCENT.map(|percent| steps * percent / 100),
            logs: Default::default(),
        }
    }

    /// Works on `workers` carts at a time until all is done, and tells the log of each keyspace.
    ///
    /// # Errors
    /// A merge went wrong, or the cut could not be made. Refused or unanswered writes are no
    /// errors: the log tells of them.
    pub async fn finish(self, workers: usize) -> Result<[Vec<Record>; 2]> {
        let run = Arc::new(self);
        let mut tasks = JoinSet::new();
        for _ in 0..workers.max(1) {
            tasks.spawn(Arc::clone(&run).work());
        }
        while let Some(worker) = tasks.join_next().await {
            worker.context("a worker failed")??;
        }
        Ok(std::array::from_fn(|keyspace| std::mem::take(&mut *lock(&run.logs[keyspace]))))
    }

    async fn work(self: Arc<Self>) -> Result<()> {
        loop {
            // A cart that another worker holds comes back to that worker's queue turn, so an
            // empty queue means that there is no work for this one.
            let Some(Reverse(mut cart)) = lock(&self.waiting).pop() else {
                return Ok(());
            };
            let Some(round) = cart.plan.rounds.get(cart.rounds_done) else {
                continue;
            };
            let [merged, last_write] = &mut cart.lanes;
            tokio::try_join!(
                merged.play(&self, &cart.plan, round),
                last_write.play(&self, &cart.plan, round)
            )?;
            let steps = round.steps();
            cart.advance();
            self.advance(steps).await?;
            lock(&self.waiting).push(Reverse(cart));
        }
    }

    /// Counts steps, and cuts or heals when it is time.
    async fn advance(&self, steps: usize) -> Result<()> {
        let before = self.steps_done.fetch_add(steps, Ordering::SeqCst);
        self.progress.advance(steps);
        let crosses = |at: usize| before < at && at <= before + steps;
        let [cut, heal] = self.cut_at;
        for (at, isolated, words) in [
            (cut, true, "node 3 is cut off; both sides go on writing"),
            (heal, false, "node 3 is back"),
        ] {
            if crosses(at) {
                let set = self.clients[CUT_NODE].set_isolated(isolated).await;
                set.context("the fault switch of node 3 does not work")?;
                self.progress.say(words);
            }
        }
        Ok(())
    }

    fn record(&self, keyspace: usize, plan: &CartPlan, device: usize, operation: Operation) {
        let (cart, node) = (plan.key.clone(), plan.nodes[device]);
        let record = Record { keyspace: KEYSPACES[keyspace], cart, device, node, operation };
        lock(&self.logs[keyspace]).push(record);
    }
}

impl Lane {
    async fn play(&mut self, run: &Run, plan: &CartPlan, round: &Round) -> Result<()> {
        match round {
            Round::Alone(step) => {
                let change = self.prepare(run, plan, step).await?;
                self.write(run, plan, change).await;
            }
            Round::Race([one, other]) => {
                let first = self.prepare(run, plan, one).await?;
                let second = self.prepare(run, plan, other).await?;
                tokio::join!(self.write(run, plan, first), self.write(run, plan, second));
            }
        }
        Ok(())
    }

    /// Reads the cart and changes it. None if there is nothing to write.
    async fn prepare(
        &mut self,
        run: &Run,
        plan: &CartPlan,
        step: &Step,
    ) -> Result<Option<Prepared>> {
        let Some(read) = self.read(run, plan, step.device).await? else {
            return Ok(None);
        };
        let cart = Cart::read(read.value.as_deref());
        let mut cart =
            cart.with_context(|| format!("the cart {} is not in the cart's format", plan.key))?;
        let removed = self.remove(run, plan, step, &mut cart);
        let mut added = Vec::new();
        if let Change::Add { tag, sku, quantity } = &step.change {
            cart.add(tag, sku, *quantity);
            added.push(Added { tag: tag.clone(), sku: sku.clone() });
        }
        if added.is_empty() && removed.is_empty() {
            return Ok(None);
        }
        let (device, value, context) = (step.device, cart.write()?, read.context);
        Ok(Some(Prepared { device, value, context, added, removed }))
    }

    /// Takes out what the step says and what the device does not like at first sight.
    fn remove(&mut self, run: &Run, plan: &CartPlan, step: &Step, cart: &mut Cart) -> Vec<Removed> {
        let mut unwanted = BTreeSet::new();
        if let Change::Remove { sku } = &step.change {
            unwanted.insert(sku.clone());
        }
        for (tag, item) in &cart.items {
            let first_sight = self.seen[step.device].insert(tag.clone());
            if first_sight && plan::takes_out(run.seed, &plan.key, step.device, tag) {
                unwanted.insert(item.sku.clone());
            }
        }
        let removals = unwanted.into_iter().map(|sku| {
            let tags = cart.remove(&sku);
            Removed { sku, tags }
        });
        // A cancellation of what is not in the cart changes nothing.
        removals.filter(|removed| !removed.tags.is_empty()).collect()
    }

    /// The cart as the device's node gives it. None if it does not answer.
    async fn read(&self, run: &Run, plan: &CartPlan, device: usize) -> Result<Option<Read>> {
        let client = &run.clients[plan.nodes[device]];
        for attempt in 1.. {
            let error = match client.read(KEYSPACES[self.keyspace], &plan.key).await {
                Ok(read) => {
                    let operation = Operation::Get { siblings: read.siblings, error: None };
                    run.record(self.keyspace, plan, device, operation);
                    return Ok(Some(read));
                }
                Err(error) => error,
            };
            let operation = Operation::Get { siblings: 0, error: Some(error.to_string()) };
            run.record(self.keyspace, plan, device, operation);
            match error {
                _ if attempt < READ_TRIES => sleep(READ_PAUSE).await,
                ReadError::Unavailable(_) => break,
                ReadError::NotMerged { .. } => {
                    let cart = &plan.key;
                    return Err(error).with_context(|| format!("the merge of cart {cart} fails"));
                }
            }
        }
        Ok(None)
    }

    async fn write(&self, run: &Run, plan: &CartPlan, change: Option<Prepared>) {
        let Some(Prepared { device, value, context, added, removed }) = change else {
            return;
        };
        let client = &run.clients[plan.nodes[device]];
        let answer = client.write(KEYSPACES[self.keyspace], &plan.key, value, context).await;
        let outcome = match &answer {
            Ok(()) => Outcome::Acked,
            Err(error) if error.no_effect => Outcome::Refused,
            Err(_) => Outcome::Unknown,
        };
        let error = answer.err().map(|error| error.message);
        let put = Put { added, removed, outcome, error };
        run.record(self.keyspace, plan, device, Operation::Put(put));
    }
}

impl CartRun {
    fn new(index: usize, plan: CartPlan) -> Self {
        let lanes = std::array::from_fn(|keyspace| Lane { keyspace, seen: Default::default() });
        CartRun { position: (0, index), plan, rounds_done: 0, lanes }
    }

    fn advance(&mut self) {
        self.rounds_done += 1;
        let rounds = self.plan.rounds.len().max(1);
        self.position.0 = (((self.rounds_done as u64) << 32) / rounds as u64).min(1 << 32);
    }
}

impl PartialEq for CartRun {
    fn eq(&self, other: &Self) -> bool {
        self.position == other.position
    }
}

impl Eq for CartRun {}

impl PartialOrd for CartRun {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CartRun {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.position.cmp(&other.position)
    }
}

/// A worker that panicked ends the run anyhow, so what it left locked does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{data, plan};

    #[test]
    fn all_carts_advance_together() {
        let lines = data::read(crate::demo::EMBEDDED_LINES.as_bytes()).expect("valid");
        let plans = plan::plan(&lines, 1);
        let run = Run::new(&[], plans, 1, Progress::new(0));
        let total: usize = lock(&run.waiting).iter().map(|cart| cart.0.plan.rounds.len()).sum();
        for _ in 0..total / 2 {
            let Some(Reverse(mut cart)) = lock(&run.waiting).pop() else {
                break;
            };
            cart.advance();
            lock(&run.waiting).push(Reverse(cart));
        }
        let waiting = lock(&run.waiting);
        for Reverse(cart) in waiting.iter().filter(|cart| cart.0.plan.rounds.len() >= 10) {
            let share = cart.rounds_done * 100 / cart.plan.rounds.len();
            assert!((40..=65).contains(&share), "{} is at {share} %", cart.plan.key);
        }
    }
}
