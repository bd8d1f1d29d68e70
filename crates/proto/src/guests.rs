//! How much each address takes, where that is limited: of connections, of sessions, of codes. Each of them has its own count.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where a client comes from, as far as one client has one such place: an IPv4 address, or the first 64 bits of an IPv6 address, since whoever has one of these has
/// all that begin like it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address(NonZeroU64);

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Address {
        const IS_SHORT: u64 = 0xFFFF << 32;
        let number = match address.to_canonical() {
            IpAddr::V4(address) => IS_SHORT | u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        // The loopback address of IPv6 begins with zeros.
        Address(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }
}

/// What each address has of one thing.
#[derive(Debug, Clone, Default)]
pub struct Guests(Option<Arc<Table>>);

#[derive(Debug)]
struct Table {
    max: usize,
    counts: Mutex<HashMap<Address, usize>>,
}

/// One that counts for its address until this is dropped.
#[derive(Debug)]
pub struct Guest {
    table: Arc<Table>,
    address: Address,
}

/// An address has as much as each may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("this address has {max} already, and --max-per-address allows no more; try again later")]
pub struct TooManyGuests {
    /// How much that is.
    pub max: usize,
}

impl Guests {
    /// So many for each address. `None`: as many as there are, and nothing is counted.
    pub fn new(max: Option<usize>) -> Guests {
        Guests(max.map(|max| Arc::new(Table { max, counts: Mutex::default() })))
    }

    /// Counts one more for an address.
    ///
    /// # Errors
    /// It has as many as it may have.
    pub fn admit(&self, address: Option<Address>) -> Result<Option<Guest>, TooManyGuests> {
        let (Some(table), Some(address)) = (&self.0, address) else { return Ok(None) };
        let mut counts = table.counts();
        let count = counts.entry(address).or_default();
        if *count >= table.max {
            return Err(TooManyGuests { max: table.max });
        }
        *count += 1;
        drop(counts);
        Ok(Some(Guest { table: table.clone(), address }))
    }
}

impl Table {
    fn counts(&self) -> MutexGuard<'_, HashMap<Address, usize>> {
        self.counts.lock().expect("nobody panics while it counts")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.table.counts();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<Address> {
        Some(text.parse::<IpAddr>().unwrap().into())
    }

    #[test]
    fn an_address_has_as_many_as_it_may_have_and_others_have_theirs() {
        let guests = Guests::new(Some(2));
        let one = [guests.admit(address("10.0.0.1")), guests.admit(address("::ffff:10.0.0.1"))];
        assert!(one.iter().all(|guest| matches!(guest, Ok(Some(_)))));
        assert_eq!(guests.admit(address("10.0.0.1")).unwrap_err(), TooManyGuests { max: 2 });
        let other = guests.admit(address("10.0.0.2")).unwrap();
        let [first, second] = one;
        drop(first);
        let third = guests.admit(address("10.0.0.1")).unwrap();
        drop((second, third, other));
        assert!(guests.0.as_ref().unwrap().counts().is_empty());
        // Where nothing is limited nothing is counted.
        assert!(matches!(Guests::new(None).admit(address("10.0.0.1")), Ok(None)));
    }

    #[test]
    fn who_has_an_address_of_ipv6_has_all_that_begin_like_it() {
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:2"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_ne!(address("::1"), address("127.0.0.1"));
    }
}
