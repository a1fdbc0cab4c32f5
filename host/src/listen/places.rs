//! Places for connections: so many in all, so many of one address.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::DoorLimits;
use super::figures::Closed;
use super::hold::Hold;

/// The places of one listener. Clones are the same places.
#[derive(Clone)]
pub struct Places {
    connections_max: usize,
    per_address_max: usize,
    readable: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    last: u64,
    connections: BTreeMap<u64, (SocketAddr, Arc<Hold>)>,
    by_address: HashMap<IpAddr, usize>,
}

/// A place, free again when this is dropped.
pub(super) struct Place {
    taken: Arc<Mutex<Taken>>,
    number: u64,
    from: SocketAddr,
    address: IpAddr,
    hold: Arc<Hold>,
}

impl Places {
    pub(super) fn new(limits: &DoorLimits) -> Self {
        Places {
            connections_max: limits.connections_max,
            per_address_max: limits.connections_per_address_max,
            readable: limits.stranger_bytes_max.unwrap_or(usize::MAX),
            taken: Arc::default(),
        }
    }

    pub(super) fn take(&self, from: SocketAddr) -> Result<Place, Closed> {
        let address = share(from.ip());
        let mut taken = lock(&self.taken);
        if taken.connections.len() >= self.connections_max {
            return Err(Closed::Full { connections_max: self.connections_max });
        }
        let own = taken.by_address.get(&address).copied().unwrap_or(0);
        if own >= self.per_address_max {
            return Err(Closed::AddressFull { per_address_max: self.per_address_max });
        }
        taken.last += 1;
        let (number, hold) = (taken.last, Hold::new(self.readable));
        taken.connections.insert(number, (from, hold.clone()));
        taken.by_address.insert(address, own + 1);
        Ok(Place { taken: self.taken.clone(), number, from, address, hold })
    }

    /// Ends the connections of which `is_over` holds; those that opened first come first.
    pub(super) fn end_if(&self, is_over: impl Fn(&Hold) -> bool) -> Vec<SocketAddr> {
        let taken = lock(&self.taken);
        let over = taken.connections.values().filter(|(_, hold)| !hold.is_ended() && is_over(hold));
        over.map(|(from, hold)| {
            hold.end();
            *from
        })
        .collect()
    }

    /// Ends all connections.
    pub fn end_all(&self) {
        self.end_if(|_| true);
    }
}

impl Place {
    pub fn from(&self) -> SocketAddr {
        self.from
    }

    pub fn hold(&self) -> &Arc<Hold> {
        &self.hold
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.connections.remove(&self.number);
        if let Some(own) = taken.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

// No code under the lock panics, so a poisoned one is whole.
fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What counts as one address: of IPv6 whoever has one has at least a /64.
fn share(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(connections_max: usize, connections_per_address_max: usize) -> Places {
        Places::new(&DoorLimits {
            connections_max,
            connections_per_address_max,
            ..DoorLimits::default()
        })
    }

    fn address(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().expect("an address"), 1)
    }

    #[test]
    fn places_are_bounded_in_all_and_by_address_and_come_back() {
        let places = places(3, 2);
        let one = address("10.0.0.1");
        let held: Vec<_> = (0..2).map(|_| places.take(one).expect("free")).collect();
        assert!(matches!(places.take(one), Err(Closed::AddressFull { .. })));
        let other = places.take(address("10.0.0.2")).expect("free");
        assert!(matches!(places.take(address("10.0.0.3")), Err(Closed::Full { .. })));
        drop(held);
        assert!(places.take(one).is_ok());
        drop(other);
        assert!(places.taken.lock().expect("whole").by_address.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_ipv4_is_itself() {
        let places = places(9, 1);
        let _held = places.take(address("2001:db8::1")).expect("free");
        assert!(places.take(address("2001:db8::2:1")).is_err());
        assert!(places.take(address("2001:db8:0:1::1")).is_ok());
        let _held = places.take(address("::ffff:10.0.0.1")).expect("free");
        assert!(places.take(address("10.0.0.1")).is_err());
        assert!(places.take(address("10.0.0.2")).is_ok());
    }
}
