//! File descriptors: a store that finds none goes out of service, so connections leave some.
//!
//! A process may open so many files, connections included; systems mostly give 1,024 unless the
//! process asks for more, which this does at its start. What the stores, modules and dialled peers
//! need is set aside, and the listeners share the rest: if that is less than their settings say,
//! the settings are lowered, and the log says so.

use std::io;

use crate::config::Listeners;
use crate::listen::{DoorLimits, FAREWELLS_MAX};

/// Set aside: two stores with their engines' files, the files of modules and of the node itself,
/// sockets and pipes of the runtime, compilers, dialled peers.
const RESERVED: u64 = 400;
/// Connections to the page of metrics.
pub const METRICS_CONNECTIONS_MAX: usize = 16;
/// Connections to the console.
pub const CONSOLE_CONNECTIONS_MAX: usize = 32;
/// The fewest connections per listener with which a node is of use.
const CONNECTIONS_MIN: usize = 16;

/// Asks for as many descriptors as the system gives this process. Returns how many that are.
///
/// # Errors
/// The system does not tell.
pub fn raise() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `getrlimit` writes the struct that it is given.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: `setrlimit` reads the struct that it is given for the time of the call.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0;
    Ok(if done { limit.rlim_max } else { limit.rlim_cur })
}

/// What the doors of a node let in.
#[derive(Debug, PartialEq, Eq)]
pub struct Doors {
    /// For clients.
    pub client: DoorLimits,
    /// For operators.
    pub admin: DoorLimits,
    /// For other nodes.
    pub peer: DoorLimits,
}

/// There are too few descriptors.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the process may open {found} files at most, and a node needs {needed}: raise the hard limit \
     (`ulimit -Hn`, systemd: LimitNOFILE)"
)]
pub struct TooFew {
    found: u64,
    needed: u64,
}

impl Doors {
    /// What `listeners` say, or as much of it as `limit` descriptors are enough for.
    ///
    /// # Errors
    /// They are too few for any node.
    pub fn fit(listeners: &Listeners, limit: u64) -> Result<Doors, TooFew> {
        let pages = METRICS_CONNECTIONS_MAX + CONSOLE_CONNECTIONS_MAX;
        let others = RESERVED + 3 * FAREWELLS_MAX as u64 + pages as u64;
        let left = usize::try_from(limit.saturating_sub(others)).unwrap_or(usize::MAX);
        if left < 4 * CONNECTIONS_MIN {
            let needed = others + 4 * CONNECTIONS_MIN as u64;
            return Err(TooFew { found: limit, needed });
        }
        let wanted = listeners.door();
        if wanted.connections_max.saturating_mul(3) <= left {
            return Ok(Doors { client: wanted.clone(), admin: wanted.clone(), peer: wanted });
        }
        let share = |part: usize| {
            let connections_max = wanted.connections_max.min(part);
            // As before, one address gets a part of that only.
            let per_address = wanted.connections_per_address_max.saturating_mul(connections_max);
            DoorLimits {
                connections_max,
                connections_per_address_max: (per_address / wanted.connections_max).max(1),
                ..wanted.clone()
            }
        };
        let doors =
            Doors { client: share(left / 2), admin: share(left / 4), peer: share(left / 4) };
        tracing::warn!(
            open_files_max = limit,
            connections_max = wanted.connections_max,
            clients = doors.client.connections_max,
            operators = doors.admin.connections_max,
            peers = doors.peer.connections_max,
            "the listeners take fewer connections than listeners.connections_max: the process may \
             not open more files; raise the hard limit"
        );
        Ok(doors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(doors: &Doors) -> [usize; 3] {
        [&doors.client, &doors.admin, &doors.peer].map(|door| door.connections_max)
    }

    #[test]
    fn connections_leave_descriptors_to_the_stores() {
        let listeners = Listeners::default();
        let doors = Doors::fit(&listeners, 1 << 20).expect("plenty");
        assert_eq!(all(&doors), [2_048; 3]);
        let doors = Doors::fit(&listeners, 1_024).expect("some");
        let pages = METRICS_CONNECTIONS_MAX + CONSOLE_CONNECTIONS_MAX;
        let held = all(&doors).iter().sum::<usize>() + 3 * FAREWELLS_MAX + pages;
        assert!(held as u64 + RESERVED <= 1_024, "{doors:?}");
        assert!(all(&doors).into_iter().all(|most| most > 64), "{doors:?}");
        assert_eq!(doors.client.connections_per_address_max, doors.client.connections_max / 2);
        assert!(Doors::fit(&listeners, 256).expect_err("too few").to_string().contains("256"));
    }
}
