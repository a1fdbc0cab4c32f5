//! Places for connections: so many in all, so many of one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::DoorLimits;
use super::figures::Closed;

/// The places of one listener.
pub(super) struct Places {
    connections_max: usize,
    per_address_max: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place, free again when this is dropped.
pub(super) struct Place {
    taken: Arc<Mutex<Taken>>,
    address: IpAddr,
}

impl Places {
    pub fn new(limits: &DoorLimits) -> Self {
        Places {
            connections_max: limits.connections_max,
            per_address_max: limits.connections_per_address_max,
            taken: Arc::default(),
        }
    }

    pub fn take(&self, address: IpAddr) -> Result<Place, Closed> {
        let address = share(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.connections_max {
            return Err(Closed::Full { connections_max: self.connections_max });
        }
        let own = taken.by_address.get(&address).copied().unwrap_or(0);
        if own >= self.per_address_max {
            return Err(Closed::AddressFull { per_address_max: self.per_address_max });
        }
        taken.all += 1;
        taken.by_address.insert(address, own + 1);
        Ok(Place { taken: self.taken.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(own) = taken.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
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
    use std::time::Duration;

    use super::*;

    fn places(connections_max: usize, connections_per_address_max: usize) -> Places {
        let opening_deadline = Duration::ZERO;
        Places::new(&DoorLimits { connections_max, connections_per_address_max, opening_deadline })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
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
