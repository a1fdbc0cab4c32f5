//! How fast it is. Not a test: it is run by name and read by a person.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;

/// `cargo test -p stator --lib durable_puts -- --ignored --nocapture`
#[test]
#[ignore = "prints a measurement, checks nothing"]
fn durable_puts_a_second() {
    const PUTS: usize = 100_000;
    for writers in [1, 64, 256] {
        let directory = tempfile::tempdir_in(".").unwrap();
        let home = Arc::new(Home::open(directory.path()).unwrap());
        let stores = Stores::open(home, &StoreOptions::default()).unwrap();
        let puts = if writers == 1 { PUTS / 10 } else { PUTS };
        let (next, value) = (AtomicUsize::new(0), "x".repeat(1024));
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..writers {
                scope.spawn(|| {
                    while let n @ ..PUTS = next.fetch_add(1, Ordering::Relaxed) + PUTS - puts {
                        put(&stores, &format!("key-{n:028}"), &value);
                    }
                });
            }
        });
        let seconds = start.elapsed().as_secs_f64();
        let syncs = stores.figures(Area::Data).syncs;
        println!("{writers} writers: {:.0} durable puts/s, {syncs} syncs", puts as f64 / seconds);
        let start = Instant::now();
        stores.close().unwrap();
        println!("  closed in {:?}", start.elapsed());
    }
}
