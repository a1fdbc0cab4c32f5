//! `stator kv count`.

use clap::Args;
use serde_json::json;
use stator_proto::v1;

use super::{Range, progress};
use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};
use crate::cli::session::Session;

const EXAMPLES: &str = "\
Examples:
  stator kv count -k carts
  stator kv count -k carts --estimate

The count reads all that it counts, at all owners. An estimate reads a part of the partitions, in
which keys are spread evenly, and stops when that makes at least 10,000 keys.";

/// Keys that an estimate reads, if there are so many.
const ESTIMATED_KEYS: u64 = 10_000;

/// Count the keys of a keyspace, and their bytes
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Count {
    #[command(flatten)]
    range: Range,
    /// Read a part, and tell about how many there are
    #[arg(long)]
    estimate: bool,
}

#[derive(Debug, Default)]
struct Found {
    keys: u64,
    divergent: u64,
    bytes: u64,
}

impl Found {
    fn add(&mut self, key: &v1::ListedKey) {
        self.keys += 1;
        self.divergent += u64::from(key.versions.len() > 1);
        self.bytes += key.versions.iter().map(|version| version.value_bytes).sum::<u64>();
    }

    /// As if all partitions had been read.
    fn scaled(self, permille: u32) -> Self {
        let scale = |count: u64| match permille {
            1..=999 => count.saturating_mul(1_000) / u64::from(permille),
            _ => count,
        };
        let Found { keys, divergent, bytes } = self;
        Found { keys: scale(keys), divergent: scale(divergent), bytes: scale(bytes) }
    }
}

impl Count {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let mut listing = session.kv().await?.list(self.range.request(v1::View::Metadata)?);
        let (mut found, mut permille) = (Found::default(), 0);
        let bar = progress::permille();
        while let Some(page) = listing.next().await? {
            page.keys.iter().for_each(|key| found.add(key));
            permille = page.permille;
            bar.set_position(permille.into());
            // A page that ends within a partition is no fair part of it; the first partitions are.
            if self.estimate && found.keys >= ESTIMATED_KEYS && permille > 0 {
                break;
            }
        }
        drop(bar);
        let Found { keys, divergent, bytes } = found.scaled(permille);
        let is_estimate = self.estimate && permille < 1_000;
        match session.output {
            Output::Json => output::json(&json!({
                "keyspace": self.range.keyspace,
                "keys": keys,
                "divergent": divergent,
                "value_bytes": bytes,
                "estimate": is_estimate,
            })),
            Output::Table => {
                let about = if is_estimate { "about " } else { "" };
                output::line(format!(
                    "{about}{keys} keys, {divergent} of them with siblings, {bytes} bytes of values"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_scales_what_was_read() {
        let found = || Found { keys: 100, divergent: 3, bytes: 5_000 };
        assert_eq!(found().scaled(250).keys, 400);
        assert_eq!(found().scaled(1_000).bytes, 5_000);
        assert_eq!(found().scaled(0).divergent, 3, "nothing is known of the rest");
    }
}
