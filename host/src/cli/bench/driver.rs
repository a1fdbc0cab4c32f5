//! Workers that carry a workload out against a target.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokio::task::{JoinError, JoinSet};

use super::cart;
use super::choice::{Choice, below};
use super::population::Population;
use super::recorder::{Live, Recorder};
use super::schedule::{End, Tickets};
use super::target::{Over, Reading, Reason, Target, Written};
use super::workload::{Family, Kind, Workload};

/// Workers share recorders, so that a thousand of them do not hold a thousand sets of histograms.
const RECORDERS: usize = 16;
/// How many different values of a size there are.
const VALUES: usize = 4_096;

/// What the workers of a run do.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) workload: Workload,
    pub(super) choice: Choice,
    pub(super) population: Arc<Population>,
    pub(super) values: Values,
    /// Of 100 read-modify-writes, in how many a second writer writes at the same time.
    pub(super) conflicts: u64,
    /// How many operations are under way at most: the number of workers.
    pub(super) concurrency: usize,
    /// Operations a second in an open loop; none is a closed one.
    pub(super) rate: Option<f64>,
    pub(super) seed: u64,
    /// Whether each second's latencies are recorded.
    pub(super) by_second: bool,
}

/// What a run came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) recorder: Recorder,
    /// From the first operation's beginning to the last one's end.
    pub(super) time: Duration,
    /// Operations of an open loop that were due and never begun.
    pub(super) never_begun: u64,
}

/// Values of a family and a size, in bytes.
#[derive(Debug, Clone)]
pub(super) struct Values {
    family: Family,
    bytes: usize,
    /// Slices of it are the plain ones.
    pool: Bytes,
}

impl Values {
    pub(super) fn new(family: Family, bytes: usize, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let letter = |_| b'!' + (random.next_u32() % 94) as u8;
        let pool = (0..bytes + VALUES).map(letter).collect::<Vec<_>>().into();
        Values { family, bytes, pool }
    }

    /// A value for a new key, or in place of whatever there is.
    fn fresh(&self, random: &mut impl Rng) -> Result<Bytes, Reason> {
        match self.family {
            Family::Carts => cart::full(self.bytes, random),
            Family::Plain => {
                let start = below(VALUES as u64, random) as usize;
                Ok(self.pool.slice(start..start + self.bytes))
            }
        }
    }

    /// What is written by who has read `siblings`.
    fn modified(&self, siblings: &[Bytes], random: &mut impl Rng) -> Result<Bytes, Reason> {
        match self.family {
            Family::Carts => cart::edited(siblings, self.bytes, random),
            Family::Plain => self.fresh(random),
        }
    }
}

/// Carries `work` out with its workers, worker by worker through one of `targets` after another.
///
/// # Errors
/// A worker panicked.
pub(super) async fn drive<T: Target>(
    targets: Arc<[T]>,
    work: Arc<Work>,
    end: End,
    live: Arc<Live>,
) -> Result<Outcome, JoinError> {
    let recorders: Vec<Arc<Mutex<Recorder>>> = (0..RECORDERS).map(|_| Arc::default()).collect();
    let tickets = Tickets::start(end, work.rate, work.concurrency);
    let mut workers = JoinSet::new();
    for number in 0..work.concurrency {
        let worker = Worker {
            number,
            targets: targets.clone(),
            work: work.clone(),
            tickets: tickets.clone(),
            recorder: recorders[number % RECORDERS].clone(),
            live: live.clone(),
            random: random(work.seed, number),
        };
        workers.spawn(worker.run());
    }
    while let Some(joined) = workers.join_next().await {
        joined?;
    }
    let time = tickets.elapsed();
    let mut sum = Recorder::default();
    for recorder in recorders {
        sum.add(&recorder.lock().unwrap_or_else(PoisonError::into_inner));
    }
    Ok(Outcome { recorder: sum, time, never_begun: tickets.never_begun() })
}

/// The randomness of one worker, the same for the same seed.
fn random(seed: u64, worker: usize) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(worker as u64);
    random
}

/// One operation at a time.
struct Worker<T: Target> {
    number: usize,
    targets: Arc<[T]>,
    work: Arc<Work>,
    tickets: Arc<Tickets>,
    recorder: Arc<Mutex<Recorder>>,
    live: Arc<Live>,
    random: ChaCha8Rng,
}

impl<T: Target> Worker<T> {
    async fn run(mut self) {
        while let Some(intended) = self.tickets.next().await {
            let result = match self.work.workload.draw(&mut self.random) {
                Kind::Read => self.read(intended).await,
                Kind::Update => self.update(intended).await,
                Kind::Insert => self.insert(intended).await,
                Kind::ReadModifyWrite => self.read_modify_write(intended).await,
            };
            self.live.count(result.is_err());
            let took = result.is_ok().then(|| intended.elapsed());
            self.record(|recorder| {
                if self.work.by_second {
                    recorder.timeline.ended(self.tickets.since_start(intended), took);
                }
                match result {
                    Ok(()) => recorder.operations += 1,
                    Err(reason) => recorder.failed(reason),
                }
            });
        }
    }

    async fn read(&mut self, intended: Instant) -> Result<(), Reason> {
        let key = self.key();
        self.read_of(key, intended).await.map(drop)
    }

    async fn read_of(&self, key: u64, begun: Instant) -> Result<Reading<T::Seen>, Reason> {
        let reading = self.target(0).read(key).await?;
        let time = begun.elapsed();
        self.record(|recorder| {
            recorder.took(Kind::Read, time);
            recorder.has_read(&reading);
        });
        Ok(reading)
    }

    async fn update(&mut self, intended: Instant) -> Result<(), Reason> {
        let (key, value) = (self.key(), self.work.values.fresh(&mut self.random)?);
        let written = self.target(0).write(key, value, Over::Whatever).await?;
        self.wrote(Kind::Update, intended, written);
        Ok(())
    }

    async fn insert(&mut self, intended: Instant) -> Result<(), Reason> {
        let value = self.work.values.fresh(&mut self.random)?;
        let key = self.work.population.begin_insert();
        let written = self.target(0).write(key, value, Over::Nothing).await;
        self.work.population.end_insert(key);
        self.wrote(Kind::Insert, intended, written?);
        Ok(())
    }

    /// With a rival it ends when both are answered.
    async fn read_modify_write(&mut self, intended: Instant) -> Result<(), Reason> {
        let key = self.key();
        let reading = self.read_of(key, intended).await?;
        let value = self.work.values.modified(&reading.values, &mut self.random)?;
        let has_rival = below(100, &mut self.random) < self.work.conflicts;
        let rival = has_rival.then(|| self.work.values.modified(&reading.values, &mut self.random));
        let (rival, writing) = (rival.transpose()?, Instant::now());
        let own = self.half_written(0, key, value, reading.seen.clone(), writing);
        match rival {
            None => own.await?,
            Some(value) => {
                let rival = self.half_written(1, key, value, reading.seen, writing);
                let (own, rival) = tokio::join!(own, rival);
                if let Err(reason) = rival {
                    self.record(|recorder| recorder.failed(reason));
                }
                own?;
            }
        }
        let time = intended.elapsed();
        self.record(|recorder| recorder.took(Kind::ReadModifyWrite, time));
        Ok(())
    }

    /// The second half of a read-modify-write, through the worker's own connection or a further one.
    async fn half_written(
        &self,
        connection: usize,
        key: u64,
        value: Bytes,
        seen: T::Seen,
        begun: Instant,
    ) -> Result<(), Reason> {
        let written = self.target(connection).write(key, value, Over::Seen(seen)).await?;
        self.wrote(Kind::Update, begun, written);
        Ok(())
    }

    fn wrote(&self, kind: Kind, begun: Instant, written: Written) {
        let time = begun.elapsed();
        self.record(|recorder| {
            recorder.took(kind, time);
            recorder.has_written(written);
        });
    }

    fn key(&mut self) -> u64 {
        self.work.choice.draw(self.work.population.present(), &mut self.random)
    }

    /// The worker's own connection, or one of the next.
    fn target(&self, further: usize) -> &T {
        &self.targets[(self.number + further) % self.targets.len()]
    }

    fn record(&self, what: impl FnOnce(&mut Recorder)) {
        // A recorder of a worker that panicked is not read: the run fails.
        what(&mut self.recorder.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests;
