//! Clusters of real processes, and what the tests ask of them.

mod authority;
mod cluster;
mod codec;
mod guests;
mod node;
mod process;
mod requests;
mod writer;

pub use authority::{Authority, Identity};
pub use cluster::Cluster;
pub use codec::Raw;
pub use guests::{
    LOOP, ambush, built, compile_bomb, core_module, foreign_import, module, other_world, pushing,
};
pub use node::Node;
pub use process::{stator, stator_with};
pub use requests::{get, keyspace, put, values};
pub use writer::{Writer, nothing_is_lost};

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

/// Far beyond what anything takes: reached only if the condition never holds.
const DEADLINE: Duration = Duration::from_secs(60);

/// Tries until it succeeds, and tells what the last attempt lacked if it never does.
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(missing) if Instant::now() > deadline => {
                panic!("{what}: not after {} s: {missing}", DEADLINE.as_secs())
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// `true` as success, anything else as what is missing.
pub fn must(holds: bool, missing: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(missing()) }
}

/// How a request must be refused.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    pub code: Code,
    pub reason: &'static str,
    /// Words of the message: what is wrong and why.
    pub says: &'static [&'static str],
}

/// Shortest form of a [`Refusal`].
pub const fn refusal(code: Code, reason: &'static str, says: &'static [&'static str]) -> Refusal {
    Refusal { code, reason, says }
}

impl Refusal {
    /// Checks an answer that must be this refusal.
    #[track_caller]
    pub fn check<T: Debug>(&self, case: &str, answer: Result<Response<T>, Status>) {
        let status = match answer {
            Ok(answer) => panic!("{case}: accepted: {:?}", answer.into_inner()),
            Err(status) => status,
        };
        let details = status.get_error_details();
        let info = details.error_info();
        let found = (status.code(), info.map(|info| info.reason.as_str()));
        assert_eq!(found, (self.code, Some(self.reason)), "{case}: {}", status.message());
        assert_eq!(info.map(|info| info.domain.as_str()), Some("stator"), "{case}");
        for word in self.says {
            assert!(
                status.message().contains(word),
                "{case}: {word:?} is not in: {}",
                status.message()
            );
        }
    }
}
