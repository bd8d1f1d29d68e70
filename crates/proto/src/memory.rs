//! The memory that one server may hold, and who holds how much of it.
//!
//! Whatever may grow because of what clients do carries a [`Charge`]. It is changed when a buffer has grown or shrunk by a block, never for each message, and
//! given back when it is dropped. The account is kept after the fact: what has grown is charged even if that is too much, so that the account is true, and
//! the one that has made it too much is told and gives up what it holds. So a server holds its budget and what one read or one message brings beyond it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use thiserror::Error;

/// What is charged at a time. A buffer that is not longer is not charged at all: it is what a connection may hold in any case.
pub const BLOCK_BYTES: usize = 4 << 10;

/// The memory that a server may hold for its clients. Clones are the same budget.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    ledger: Box<dyn Ledger>,
    max_bytes: usize,
}

/// Where it is written down how much is used: in this process, or where several processes can.
pub trait Ledger: fmt::Debug + Send + Sync {
    /// Adds to what is used, and returns how much that is.
    fn add(&self, bytes: usize) -> usize;

    /// Takes it off again.
    fn give_back(&self, bytes: usize);

    /// What is used.
    fn used_bytes(&self) -> usize;
}

impl Ledger for AtomicUsize {
    fn add(&self, bytes: usize) -> usize {
        self.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    fn give_back(&self, bytes: usize) {
        self.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn used_bytes(&self) -> usize {
        self.load(Ordering::Relaxed)
    }
}

/// The budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the server holds as much as it may: try again later, or raise --max-memory")]
pub struct OverBudget;

impl Budget {
    /// A budget of which nothing is used, for one process.
    pub fn new(max_bytes: usize) -> Budget {
        Budget::with_ledger(max_bytes, AtomicUsize::new(0))
    }

    /// The same with a ledger that others may have as well.
    pub fn with_ledger(max_bytes: usize, ledger: impl Ledger + 'static) -> Budget {
        Budget(Arc::new(Account { ledger: Box::new(ledger), max_bytes }))
    }

    /// What it is.
    pub fn max_bytes(&self) -> usize {
        self.0.max_bytes
    }

    /// What is used of it.
    pub fn used_bytes(&self) -> usize {
        self.0.ledger.used_bytes()
    }

    /// Whether something of so many bytes may be made. What is not longer than a block always may.
    pub fn has_room(&self, bytes: usize) -> bool {
        bytes <= BLOCK_BYTES || self.used_bytes().saturating_add(bytes) <= self.max_bytes()
    }

    /// Whether little is left, so that what is held for nobody in particular is given up: those who are there now need it.
    pub fn is_scarce(&self) -> bool {
        self.used_bytes() > self.max_bytes() - self.max_bytes() / 8
    }

    /// Whether more is used than there may be.
    pub fn is_used_up(&self) -> bool {
        self.used_bytes() > self.max_bytes()
    }

    /// The same bytes, charged for as long as anybody has them. Those that are shorter than a block are not worth it.
    pub fn keep(&self, bytes: Bytes) -> Bytes {
        if bytes.len() <= BLOCK_BYTES {
            return bytes;
        }
        let mut charge = Charge::default();
        // That it is too much is for those to know who could do without.
        let _ = charge.set(self, bytes.len());
        Bytes::from_owner(Kept { bytes, _charge: charge })
    }

    fn add(&self, bytes: usize) -> Result<(), OverBudget> {
        if self.0.ledger.add(bytes) <= self.0.max_bytes { Ok(()) } else { Err(OverBudget) }
    }

    fn give_back(&self, bytes: usize) {
        self.0.ledger.give_back(bytes);
    }
}

/// Bytes and what they cost.
struct Kept {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What one holder is charged. It is given back when this is dropped. One that is charged nothing takes 8 bytes.
#[derive(Debug, Default)]
pub struct Charge(Option<Box<Charged>>);

#[derive(Debug)]
struct Charged {
    budget: Budget,
    bytes: usize,
}

impl Charge {
    /// Charges what is held now, in whole blocks.
    ///
    /// # Errors
    /// It has become more, and that is more than there may be. It is charged all the same: what is not given up is held.
    #[inline]
    pub fn set(&mut self, budget: &Budget, held_bytes: usize) -> Result<(), OverBudget> {
        // Hardly anybody holds as much as a block.
        if held_bytes <= BLOCK_BYTES && self.0.is_none() {
            return Ok(());
        }
        self.change(budget, held_bytes)
    }

    /// Charges less, if so much less is held now.
    #[inline]
    pub fn lower(&mut self, held_bytes: usize) {
        if let Some(charged) = &mut self.0 {
            if held_bytes <= BLOCK_BYTES {
                self.0 = None;
            } else if in_blocks(held_bytes) < charged.bytes {
                charged.set(in_blocks(held_bytes)).expect("less is never too much");
            }
        }
    }

    /// What is charged, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |charged| charged.bytes)
    }

    fn change(&mut self, budget: &Budget, held_bytes: usize) -> Result<(), OverBudget> {
        if held_bytes <= BLOCK_BYTES {
            self.0 = None;
            return Ok(());
        }
        let charged = self.0.get_or_insert_with(|| Box::new(Charged { budget: budget.clone(), bytes: 0 }));
        charged.set(in_blocks(held_bytes))
    }
}

impl Charged {
    fn set(&mut self, bytes: usize) -> Result<(), OverBudget> {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes > before {
            return self.budget.add(bytes - before);
        }
        if bytes < before {
            self.budget.give_back(before - bytes);
        }
        Ok(())
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// Rounded up: what is charged is never less than what is held.
fn in_blocks(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_follows_what_is_held_in_blocks() {
        let budget = Budget::new(100 * BLOCK_BYTES);
        let mut charge = Charge::default();
        for (held, charged) in [(0, 0), (1, 0), (4096, 0), (4097, 8192), (8192, 8192), (8193, 12288), (9, 0)]
        {
            assert_eq!((charge.set(&budget, held), budget.used_bytes()), (Ok(()), charged), "{held}");
        }
        charge.set(&budget, 50_000).unwrap();
        charge.lower(60_000);
        assert_eq!((charge.bytes(), budget.used_bytes()), (53_248, 53_248));
        charge.lower(20_000);
        assert_eq!(budget.used_bytes(), 20_480);
        drop(charge);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn what_is_too_much_is_told_and_charged() {
        let budget = Budget::new(10 * BLOCK_BYTES);
        let (mut one, mut other) = (Charge::default(), Charge::default());
        one.set(&budget, 8 * BLOCK_BYTES).unwrap();
        assert_eq!(other.set(&budget, 3 * BLOCK_BYTES), Err(OverBudget));
        assert_eq!(budget.used_bytes(), 11 * BLOCK_BYTES);
        // It is told once, and then it holds it; nobody else may have more.
        assert_eq!(other.set(&budget, 3 * BLOCK_BYTES), Ok(()));
        assert_eq!(one.set(&budget, 9 * BLOCK_BYTES), Err(OverBudget));
        assert!(!budget.has_room(BLOCK_BYTES + 1) && budget.has_room(BLOCK_BYTES));
        drop(other);
        one.lower(8 * BLOCK_BYTES);
        assert!(budget.has_room(2 * BLOCK_BYTES) && !budget.has_room(2 * BLOCK_BYTES + 1));
    }

    #[test]
    fn bytes_are_charged_as_long_as_anybody_has_them() {
        let budget = Budget::new(1 << 20);
        let bytes = budget.keep(Bytes::from(vec![7; 10_000]));
        let (copy, part) = (bytes.clone(), bytes.slice(5..10));
        drop(bytes);
        assert_eq!(budget.used_bytes(), 3 * BLOCK_BYTES);
        drop(copy);
        assert_eq!((&part[..], budget.used_bytes()), (&[7; 5][..], 3 * BLOCK_BYTES));
        drop(part);
        assert_eq!(budget.used_bytes(), 0);
        budget.keep(Bytes::from(vec![7; BLOCK_BYTES])).truncate(1);
        assert_eq!(budget.used_bytes(), 0);
    }
}
