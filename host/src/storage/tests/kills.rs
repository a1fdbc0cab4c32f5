//! SIGKILL at random moments under load, again and again, on the same data.
//!
//! `STATOR_KILLS=500` kills each engine so often instead of 50 times, and
//! `STATOR_KILL_BYTES=20000` puts values of that size: engines write files more often then.

use std::collections::BTreeSet;
use std::time::Instant;

use super::super::EngineKind;
use super::child::{Ack, Ended, Orders, Running, STAYS_OPEN};
use super::disks::print_table;
use super::*;

/// How far back each life checks what was acknowledged; the last checks all.
const LIVES_CHECKED: usize = 2;

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[derive(Default)]
struct Seen {
    acks: Vec<Vec<Ack>>,
    dots: BTreeSet<(String, String)>,
    minted_twice: Vec<String>,
    lives: BTreeSet<String>,
    lost: Vec<String>,
    set_aside: BTreeSet<String>,
    killed_early: usize,
}

impl Seen {
    fn take(&mut self, child: &Running, line: &str) {
        if let Some(ack) = child.ack(line) {
            if !self.dots.insert((ack.key.clone(), ack.dot.clone())) {
                self.minted_twice.push(ack.dot.clone());
            }
            self.acks.last_mut().unwrap().push(ack);
            return;
        }
        match line.split_once(' ') {
            Some(("life", incarnation)) => {
                assert!(self.lives.insert(incarnation.to_owned()), "a life was lived twice");
            }
            Some(("aside", why)) => drop(self.set_aside.insert(why.to_owned())),
            Some(("missing" | "damaged" | "wrong" | "unread" | "full", _)) => {
                self.lost.push(line.to_owned());
            }
            _ => {}
        }
    }
}

/// Lives once: checks what was acknowledged before, writes, and is killed.
fn live(orders: &Orders, random: &mut u64, seen: &mut Seen) {
    seen.acks.push(Vec::new());
    let mut child = Running::start(orders);
    *random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    let moment = Duration::from_micros((*random >> 33) % 40_000);
    // One in four dies at some moment of its start, the others under load.
    let is_early = (*random >> 20).is_multiple_of(4);
    seen.killed_early += usize::from(is_early);
    let mut lines = Vec::new();
    if !is_early {
        let ended = child.read(None, |line| {
            lines.push(line.to_owned());
            line != "ready"
        });
        assert_eq!(ended, None, "the child ended by itself: {lines:?}");
    }
    child.read(Some(Instant::now() + moment), |line| {
        lines.push(line.to_owned());
        true
    });
    child.kill(|line| {
        lines.push(line.to_owned());
        true
    });
    lines.iter().for_each(|line| seen.take(&child, line));
}

#[test]
fn a_start_that_is_killed_takes_with_it_what_it_opens_the_store_in() {
    let directory = tempfile::tempdir().unwrap();
    let orders = Orders::new(EngineKind::Fjall, directory.path(), 1 << 10);
    let ended = Running::start(&orders).read(None, |_| true);
    assert_eq!(ended, Some(Ended::Well));
    std::fs::write(directory.path().join("opening-data"), "a start that went no further").unwrap();
    let stays = vec![("STATOR_CHILD_STAYS_OPEN".to_owned(), "1".to_owned())];
    let mut killed = Running::start(&Orders { environment: stays, ..orders.clone() });
    while !directory.path().join(STAYS_OPEN).exists() {
        assert_eq!(killed.read(Some(Instant::now() + Duration::from_millis(5)), |_| true), None);
    }
    killed.kill(|_| true);
    let mut lines = Vec::new();
    Running::start(&orders).read(None, |line| {
        lines.push(line.to_owned());
        true
    });
    assert!(lines.iter().any(|line| line == "ready"), "{lines:?}");
}

#[test]
fn kill_loop_loses_nothing_acknowledged_and_mints_no_dot_twice() {
    let (kills, bytes) = (number("STATOR_KILLS", 50), number("STATOR_KILL_BYTES", 1 << 10));
    let mut rows = Vec::new();
    for engine in [EngineKind::Sled, EngineKind::Fjall] {
        let directory = tempfile::tempdir().unwrap();
        let (mut seen, mut random) = (Seen::default(), getrandom::u64().unwrap());
        let start = Instant::now();
        for n in 0..kills {
            let recent = seen.acks.iter().rev().take(LIVES_CHECKED).flatten().cloned();
            let orders = Orders {
                writers: 6,
                prefix: format!("life{n}"),
                to_check: recent.collect(),
                ..Orders::new(engine, directory.path(), bytes)
            };
            live(&orders, &mut random, &mut seen);
        }
        let orders = Orders {
            to_check: seen.acks.iter().flatten().cloned().collect(),
            ..Orders::new(engine, directory.path(), bytes)
        };
        seen.acks.push(Vec::new());
        let mut child = Running::start(&orders);
        let mut lines = Vec::new();
        let ended = child.read(None, |line| {
            lines.push(line.to_owned());
            true
        });
        let has_checked = lines.iter().any(|line| line == "ready");
        assert!(ended == Some(Ended::Well) && has_checked, "{ended:?} {lines:?}");
        lines.iter().for_each(|line| seen.take(&child, line));
        let counts = [
            kills,
            seen.killed_early,
            seen.dots.len(),
            seen.lost.len(),
            seen.minted_twice.len(),
            seen.set_aside.len(),
        ];
        let words = counts.map(|count| count.to_string());
        let seconds = format!("{:.1} s", start.elapsed().as_secs_f64());
        rows.push([engine.name().to_owned()].into_iter().chain(words).chain([seconds]).collect());
        // First: what is missing then is missing because of it.
        assert!(seen.set_aside.is_empty(), "{engine:?}: {:?}", seen.set_aside);
        let some = &seen.lost[..seen.lost.len().min(5)];
        assert!(seen.lost.is_empty(), "{engine:?}: {} lost: {some:?}", seen.lost.len());
        assert!(seen.minted_twice.is_empty(), "{engine:?}: {:?}", seen.minted_twice);
        assert!(!seen.dots.is_empty(), "nothing was written: this tested nothing");
    }
    let head =
        ["engine", "kills", "at start", "acknowledged", "lost", "dots twice", "set aside", "in"];
    print_table("SIGKILL at random moments", &head, &rows);
}
