//! A budget in bytes that values give back when the last of them is dropped.
//!
//! A value is read once and then shared, sliced and handed on by many: nobody knows who holds it
//! last. So the charge is part of the bytes themselves.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

/// Smaller values are not charged: requests are counted, and these are small beside what each of
/// them takes anyway.
const CHARGED_FROM_BYTES: usize = 4 << 10;

/// What values that are being read may take together. Clones are one budget.
#[derive(Clone)]
pub struct ByteBudget(Arc<Inner>);

struct Inner {
    bytes_max: usize,
    left: Semaphore,
}

/// There is no room for a value now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom {
    /// The budget in bytes.
    pub bytes_max: u64,
}

impl ByteBudget {
    /// A budget of so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS);
        ByteBudget(Arc::new(Inner { bytes_max, left: Semaphore::new(bytes_max) }))
    }

    /// Whether so many bytes would fit now.
    ///
    /// # Errors
    /// They would not.
    pub fn check(&self, bytes: usize) -> Result<(), NoRoom> {
        match bytes < CHARGED_FROM_BYTES || bytes <= self.0.left.available_permits() {
            true => Ok(()),
            false => Err(self.no_room()),
        }
    }

    /// The same bytes, charged until the last slice of them is dropped.
    ///
    /// # Errors
    /// They do not fit.
    pub fn charge(&self, bytes: Bytes) -> Result<Bytes, NoRoom> {
        if bytes.len() < CHARGED_FROM_BYTES {
            return Ok(bytes);
        }
        let wanted = u32::try_from(bytes.len()).map_err(|_| self.no_room())?;
        let taken = self.0.left.try_acquire_many(wanted).map_err(|_| self.no_room())?;
        taken.forget();
        Ok(Bytes::from_owner(Charged { bytes, budget: self.0.clone() }))
    }

    fn no_room(&self) -> NoRoom {
        NoRoom { bytes_max: self.0.bytes_max as u64 }
    }
}

struct Charged {
    bytes: Bytes,
    budget: Arc<Inner>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.budget.left.add_permits(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_slice_gives_the_room_back() {
        let budget = ByteBudget::new(100 << 10);
        let value = budget.charge(vec![7; 64 << 10].into()).expect("room");
        let slice = value.slice(9..10);
        drop(value);
        let full = NoRoom { bytes_max: 100 << 10 };
        assert_eq!(budget.charge(vec![7; 64 << 10].into()), Err(full));
        assert_eq!(budget.check(64 << 10), Err(full));
        assert!(budget.charge(vec![7; 10].into()).is_ok(), "small ones are not charged");
        drop(slice);
        assert_eq!(budget.check(64 << 10), Ok(()));
        assert!(budget.charge(vec![7; 100 << 10].into()).is_ok());
    }
}
