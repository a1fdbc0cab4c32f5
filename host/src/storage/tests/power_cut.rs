//! Power cuts: nothing that was acknowledged as synced is missing after one.
//!
//! Killing a process shows nothing of this: the operating system has its writes and finishes them.
//! Two disks show it. [`Forgetful`] runs everywhere with a C compiler and keeps nothing but what
//! was synced. An ext4 on a loop device needs root: the child is stopped right after an
//! acknowledgement, the raw image copied, and the copy mounted, which replays its journal.
//!
//! `STATOR_POWER_CUTS=20` makes so many rounds for each engine and size instead of 1.

use std::time::Instant;

use super::super::EngineKind;
use super::child::{Ack, Ended, Orders, Running};
use super::disks::{Forgetful, Mounted, copy_sparse, make_ext4, print_table, skip};
use super::*;

const ENGINES: [EngineKind; 2] = [EngineKind::Sled, EngineKind::Fjall];
/// Sizes of values, with the acknowledgements of a round.
const SIZES: [(usize, usize); 3] = [(1 << 10, 400), (64 << 10, 60), (1 << 20, 16)];

fn rounds() -> usize {
    std::env::var("STATOR_POWER_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// What was found after the cuts of one engine and size.
#[derive(Default)]
struct Tally {
    rounds: usize,
    acknowledged: usize,
    missing: usize,
    set_aside: usize,
}

impl Tally {
    fn row(&self, engine: EngineKind, value_bytes: usize) -> Vec<String> {
        let counts = [self.rounds, self.acknowledged, self.missing, self.set_aside];
        let size = format!("{} KiB", value_bytes >> 10);
        [engine.name().to_owned(), size]
            .into_iter()
            .chain(counts.map(|count| count.to_string()))
            .collect()
    }
}

const HEAD: [&str; 6] = ["engine", "value", "rounds", "acknowledged", "missing", "set aside"];

/// Lets a child write until it has acknowledged `count` writes and stops it in that moment.
fn write_until(orders: &Orders, count: usize) -> (Running, Vec<Ack>) {
    let mut child = Running::start(&Orders { writers: 4, ..orders.clone() });
    let mut lines = Vec::new();
    let ended = child.read(None, |line| {
        lines.push(line.to_owned());
        lines.iter().filter(|line| line.starts_with("ack ")).count() < count
    });
    assert_eq!(ended, None, "the child ended by itself: {:?}", lines.last());
    stop(&child);
    // What it said before it stopped, it had acknowledged.
    child.read(Some(Instant::now()), |line| {
        lines.push(line.to_owned());
        true
    });
    let acks = lines.iter().filter_map(|line| child.ack(line)).collect();
    (child, acks)
}

/// SIGSTOP, and waits until it has.
fn stop(child: &Running) {
    // SAFETY: the process is a child that nobody has waited for, so the id is its own.
    unsafe {
        libc::kill(child.id(), libc::SIGSTOP);
        libc::waitpid(child.id(), std::ptr::null_mut(), libc::WUNTRACED);
    }
}

/// Opens what the cut left and counts what is not as it was.
fn look(orders: &Orders, home: &Path, acks: &[Ack], tally: &mut Tally) {
    let orders = Orders {
        home: home.to_owned(),
        to_check: acks.to_vec(),
        environment: Vec::new(),
        ..orders.clone()
    };
    let mut child = Running::start(&orders);
    let mut is_checked = false;
    let ended = child.read(None, |line| {
        let word = line.split(' ').next().unwrap_or_default();
        match word {
            "missing" | "damaged" | "wrong" | "unread" => tally.missing += 1,
            "aside" => {
                println!("{line}");
                tally.set_aside += 1;
            }
            "ready" => is_checked = true,
            _ => {}
        }
        true
    });
    assert_eq!(ended, Some(Ended::Well));
    assert!(is_checked, "the child did not check");
    tally.rounds += 1;
    tally.acknowledged += acks.len();
}

/// One cut on the disk that forgets.
fn cut_forgetful(orders: &Orders, count: usize, tally: &mut Tally) -> Result<(), String> {
    let disk = Forgetful::new()?;
    let mut environment = orders.environment.clone();
    environment.extend(disk.environment());
    let orders = Orders { home: disk.home(), environment, ..orders.clone() };
    let (child, acks) = write_until(&orders, count);
    drop(child);
    let left = disk.cut().map_err(|error| error.to_string())?;
    look(&orders, &left, &acks, tally);
    Ok(())
}

/// One cut on an ext4 on a loop device.
fn cut_ext4(orders: &Orders, count: usize, tally: &mut Tally) -> Result<(), String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (image, copy) = (directory.path().join("disk"), directory.path().join("copy"));
    make_ext4(&image, 512 << 20)?;
    let disk = Mounted::image(&image)?;
    let orders = Orders { home: disk.path().join("home"), ..orders.clone() };
    let (child, acks) = write_until(&orders, count);
    copy_sparse(&image, &copy).map_err(|error| error.to_string())?;
    drop(child);
    drop(disk);
    let left = Mounted::image(&copy)?;
    look(&orders, &left.path().join("home"), &acks, tally);
    Ok(())
}

type Cut = fn(&Orders, usize, &mut Tally) -> Result<(), String>;

fn cut_all(test: &str, title: &str, cut: Cut) {
    let mut rows = Vec::new();
    let mut missing = 0;
    for engine in ENGINES {
        for (value_bytes, count) in SIZES {
            let mut tally = Tally::default();
            let orders = Orders::new(engine, Path::new(""), value_bytes);
            for _ in 0..rounds() {
                if let Err(why) = cut(&orders, count, &mut tally) {
                    return skip(test, &why);
                }
            }
            missing += tally.missing + tally.set_aside;
            rows.push(tally.row(engine, value_bytes));
        }
    }
    print_table(title, &HEAD, &rows);
    assert_eq!(missing, 0, "acknowledged writes are missing");
}

#[test]
fn nothing_acknowledged_is_missing_after_a_power_cut() {
    let title = "Power cuts on a disk that keeps only what was synced";
    cut_all("nothing_acknowledged_is_missing_after_a_power_cut", title, cut_forgetful);
}

#[test]
fn nothing_acknowledged_is_missing_after_a_power_cut_of_an_ext4() {
    let title = "Power cuts of an ext4 on a loop device";
    cut_all("nothing_acknowledged_is_missing_after_a_power_cut_of_an_ext4", title, cut_ext4);
}

/// `sled` alone, whose `flush` is not durable on Linux, must be caught by both disks.
#[test]
fn a_power_cut_shows_a_sync_that_is_none() {
    let orders = Orders {
        environment: vec![("STATOR_CHILD_FORGETS_TO_SYNC".to_owned(), "1".to_owned())],
        ..Orders::new(EngineKind::Sled, Path::new(""), 1 << 10)
    };
    let cuts: [(&str, Cut); 2] = [("forgetful", cut_forgetful), ("ext4", cut_ext4)];
    for (name, cut) in cuts {
        let mut tally = Tally::default();
        match cut(&orders, 400, &mut tally) {
            Ok(()) => {
                print_table(
                    &format!("Planted: flush without sync ({name})"),
                    &HEAD,
                    &[tally.row(EngineKind::Sled, 1 << 10)],
                );
                assert!(tally.missing > 0, "{name}: nothing was lost, so this disk shows nothing");
            }
            Err(why) => skip("a_power_cut_shows_a_sync_that_is_none", &why),
        }
    }
}
