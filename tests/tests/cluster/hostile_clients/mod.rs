//! A node under attack by clients, while another client puts and gets all the time.
//!
//! Each attack must leave the node as it was: alive, without a panic in its log, its descriptors
//! free again, its memory bounded, and no request of the other client failed. A table is printed
//! at the end (`-- --nocapture`). `STATOR_HOSTILE_CASES` makes more messages of each kind for
//! each method than the usual 48.

mod budgets;
mod connections;
mod contexts;
mod frames;
mod messages;
mod peers;
mod raw;
mod victim;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::support::{get, put};
use messages::Interface;
use raw::Outcomes;
use victim::Victim;

/// What an attack may leave in memory, whatever it sent: what the allocator keeps.
const RSS_GROWTH_KIB_MAX: usize = 96 << 10;

/// The attacks so far, a line each.
#[derive(Default)]
struct Table(String);

impl Table {
    fn row(
        &mut self,
        (name, sent): (&str, usize),
        got: &Outcomes,
        rss_kib: usize,
        served: usize,
        took: Duration,
    ) {
        let got: Vec<_> = got.0.iter().map(|(what, count)| format!("{count} {what}")).collect();
        let got = got.join(", ");
        let _ = writeln!(
            self.0,
            "{name:<34} {sent:>8} {:>9.1} {served:>7} {:>5.1}  {got}",
            rss_kib as f64 / 1024.0,
            took.as_secs_f64()
        );
    }
}

fn cases() -> usize {
    let cases = std::env::var("STATOR_HOSTILE_CASES").ok().and_then(|text| text.parse().ok());
    cases.unwrap_or(48)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_clients_leave_a_node_as_it_was() {
    let victim = Victim::start().await;
    let (client, admin) = (victim.node.addresses.client.clone(), &victim.node.addresses.admin);
    let peer = victim.node.addresses.peer.clone();
    let channels = (&victim.node.client_channel(), &victim.admin);
    let interface = Interface::read();
    let each = cases() * interface.methods.len();

    let before = victim.rss_kib();
    let mut table = Table::default();
    macro_rules! attack {
        ($name:expr, $sent:expr, $attack:expr) => {{
            let (served, began) = (victim.served(), Instant::now());
            let outcomes: Outcomes = $attack.await;
            victim.recovers($name).await;
            let rss = victim.rss_kib();
            let served = victim.served() - served;
            table.row(($name, $sent), &outcomes, rss, served, began.elapsed());
            let most = before + RSS_GROWTH_KIB_MAX;
            assert!(rss < most, "{}: {rss} KiB, {before} before\n{}", $name, table.0);
            assert_eq!(outcomes.of("STILL OPEN"), 0, "{}\n{}", $name, table.0);
            outcomes
        }};
    }

    let got = attack!("half prefaces", 500, connections::half_prefaces(&client, 500));
    assert!(got.of("ENHANCE_YOUR_CALM") + got.of("closed") + got.of("reset") == 500, "{got:?}");
    attack!("silent connections", 150, connections::silence(&client, 150));
    attack!("stalled TLS handshakes", 150, connections::stalled_handshakes(admin, 150));
    attack!("prefaces, no sign of life", 150, connections::dead_peers(&client, 150));
    let got = attack!("connections over the budget", 800, connections::flood(&client, 800));
    assert!(got.of("ENHANCE_YOUR_CALM") > 0, "the budget was never reached: {got:?}");
    let got = attack!("stalled bodies", 400, connections::stalled_bodies(&client, 20, 20));
    assert_eq!(got.of("answered"), 400, "{got:?}");

    attack!("rapid resets", 20_000, frames::rapid_resets(&client, 20_000));
    attack!("pings", 200_000, frames::pings(&client, 200_000));
    attack!("settings", 200_000, frames::settings(&client, 100_000));
    attack!("header bombs", 3, frames::header_bombs(&client));
    attack!("lying lengths, gzip", 5, frames::lying_messages(&client));
    let got = attack!("streams over the limit", 2_000, frames::streams(&client, 2_000));
    assert!(got.of("REFUSED_STREAM") > 0, "{got:?}");
    attack!("nonsense frames, clients", 13, frames::nonsense(&client));
    attack!("nonsense frames, peers", 13, frames::nonsense(&peer));

    attack!("messages of 3 MiB", 40, oversize(&victim, 40));
    attack!("forged contexts", 500, contexts::forged(victim.node.kv()));
    attack!("random bytes to every method", each, async {
        messages::random_bytes(channels, &interface, cases()).await
    });
    attack!("weird messages to every method", each, async {
        messages::weird_messages(channels, &interface, cases()).await
    });
    attack!("garbage from a stranger node", 120, peers::garbage(&peer, 120));

    println!(
        "before: {:.1} MiB\n{:<34} {:>8} {:>9} {:>7} {:>5}  what the attacker got\n{}",
        before as f64 / 1024.0,
        "attack",
        "sent",
        "RSS MiB",
        "others",
        "s",
        table.0
    );
    victim.stops().await;
}

/// Values far beyond the limit, one after the other.
async fn oversize(victim: &Victim, count: usize) -> Outcomes {
    let mut kv = victim.node.kv();
    let large = "v".repeat(3 << 20);
    let mut outcomes = Outcomes::default();
    for _ in 0..count {
        let code = kv.put(put("default", "large", &large)).await.expect_err("too large").code();
        outcomes.add(format!("{code:?}"));
    }
    let read = kv.get(get("default", "large")).await.expect("read");
    assert!(read.get_ref().versions.is_empty(), "nothing was written");
    outcomes
}
