use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::memory::{Budget, Charge, OverBudget};

/// Writes shorter than this are copied next to each other; longer ones are queued by reference.
///
/// A reference takes a place in the queue and a segment of a gathered write; a short copy takes neither.
const COALESCE_BYTES: usize = 2048;

/// Written bytes at the start of the tail that are worth moving the rest down for, once they outnumber it.
/// Without this a receiver that is always a little behind would make the tail grow for ever.
const COMPACT_BYTES: usize = 64 << 10;

/// Buffers that a thread keeps for the next who has something to say, and how large each may be: so many replies may wait at once that
/// are made and sent without asking the allocator.
const SPARES: usize = 64;
const SPARE_BYTES: usize = 4 << 10;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer for small writes, of this thread's if there is one.
fn take_spare() -> Vec<u8> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives back a buffer whose bytes are written.
fn give_back(mut buffer: Vec<u8>) {
    if (1..=SPARE_BYTES).contains(&buffer.capacity()) {
        SPARE.with_borrow_mut(|spares| {
            if spares.len() < SPARES {
                buffer.clear();
                spares.push(buffer);
            }
        });
    }
}

/// The bytes that a session wants written, in order.
///
/// Small writes coalesce in `tail`, so that all replies to one read leave in one write; long or shared
/// ones queue by reference in `queue`. All of `queue` comes before `tail`. When everything is written
/// the buffers are given back, to the thread: an idle connection owns none.
#[derive(Debug, Default)]
pub struct Output {
    /// In a box of its own, since most connections never have one.
    queue: Option<Box<Queue>>,
    tail: Vec<u8>,
    /// Bytes at the start of `tail` that are written already.
    tail_written: usize,
    /// Bytes that were taken out to be written and are not known to be written yet.
    lent: usize,
    /// What that takes in memory until all of it is written, if it is nobody else's.
    owned_lent: usize,
    /// What is charged of all that is nobody else's.
    charge: Charge,
    /// Bytes written since the connection began: a peer whose count rises is reading.
    written: u64,
    /// How often the kernel has taken less than there was: what is queued then is not sent at once.
    stalls: u32,
    /// Keep the buffers when empty: for the load generator, which must not allocate in its steady state.
    retain: bool,
}

#[derive(Debug, Default)]
struct Queue {
    parts: VecDeque<Part>,
    /// Bytes in `parts`, so that `len` need not walk it.
    bytes: usize,
    /// Those of them that are nobody else's.
    owned_bytes: usize,
}

#[derive(Debug)]
struct Part {
    bytes: Bytes,
    /// What it takes in memory until all of it is written. Nothing, if others have it as well and it is charged to whoever has made it.
    owned_bytes: usize,
}

impl Output {
    /// An output that keeps its buffer when it is empty.
    pub fn retaining() -> Output {
        Output { retain: true, ..Output::default() }
    }

    /// Bytes not written yet.
    pub fn len(&self) -> usize {
        self.lent + self.queued() + self.tail.len() - self.tail_written
    }

    fn queued(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// The parts before the tail.
    fn parts(&self) -> impl Iterator<Item = &Bytes> {
        self.queue.iter().flat_map(|queue| &queue.parts).map(|part| &part.bytes)
    }

    /// Charges what is held here and nowhere else. To be called when something was appended.
    ///
    /// # Errors
    /// It has become more than there may be.
    #[inline]
    pub(crate) fn account(&mut self, budget: &Budget) -> Result<(), OverBudget> {
        let owned = self.owned_bytes();
        self.charge.set(budget, owned)
    }

    fn owned_bytes(&self) -> usize {
        let lent = if self.lent > 0 { self.owned_lent } else { 0 };
        self.tail.capacity() + lent + self.queue.as_ref().map_or(0, |queue| queue.owned_bytes)
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes written since the connection began.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes note that the kernel has no room for more, so that what is left waits for the peer.
    pub fn stalled(&mut self) {
        self.stalls = self.stalls.wrapping_add(1);
    }

    /// How often that was so.
    pub(crate) fn stalls(&self) -> u32 {
        self.stalls
    }

    /// Makes room for `additional` bytes of small writes, so that the replies to one read allocate once.
    pub fn reserve(&mut self, additional: usize) {
        self.tail().reserve(additional);
    }

    /// The buffer that small writes are appended to.
    #[inline]
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = take_spare();
        }
        &mut self.tail
    }

    /// Appends a copy of `bytes`.
    #[inline]
    pub fn copy(&mut self, bytes: &[u8]) {
        self.tail().extend_from_slice(bytes);
    }

    /// Appends `bytes`: by reference where that is cheaper than a copy.
    pub fn share(&mut self, bytes: &Bytes) {
        self.append(bytes, false);
    }

    /// The same for what others have as well, and is charged to whoever has made it.
    pub fn share_charged(&mut self, bytes: &Bytes) {
        self.append(bytes, true);
    }

    fn append(&mut self, bytes: &Bytes, is_shared: bool) {
        if bytes.len() < COALESCE_BYTES {
            self.copy(bytes);
        } else {
            self.push_part(bytes.clone(), if is_shared { 0 } else { bytes.len() });
        }
    }

    /// Appends `bytes`, the first `written` of which are with the kernel already. There must be nothing before them.
    pub fn begun(&mut self, bytes: &Bytes, written: usize) {
        debug_assert!(self.is_empty(), "something should have been written before");
        self.written += written as u64;
        if written < bytes.len() {
            self.share_charged(&bytes.slice(written..));
        }
    }

    /// Appends `bytes` by reference.
    pub fn push(&mut self, bytes: Bytes) {
        let owned_bytes = bytes.len();
        self.push_part(bytes, owned_bytes);
    }

    fn push_part(&mut self, bytes: Bytes, owned_bytes: usize) {
        if !self.tail.is_empty() {
            let held = self.tail.capacity();
            let mut before = Bytes::from(std::mem::take(&mut self.tail));
            before.advance(std::mem::take(&mut self.tail_written));
            self.queue(before, held);
        }
        self.queue(bytes, owned_bytes);
    }

    fn queue(&mut self, bytes: Bytes, owned_bytes: usize) {
        let queue = self.queue.get_or_insert_default();
        queue.bytes += bytes.len();
        queue.owned_bytes += owned_bytes;
        queue.parts.push_back(Part { bytes, owned_bytes });
    }

    /// Fills `slices` with the next bytes to write and returns how many slices that took.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = &self.tail[self.tail_written..];
        let parts = self.parts().map(|bytes| &bytes[..]).chain((!tail.is_empty()).then_some(tail));
        let mut used = 0;
        for (slot, part) in slices.iter_mut().zip(parts) {
            *slot = IoSlice::new(part);
            used += 1;
        }
        used
    }

    /// The next bytes to write when they stand in one piece; `None` when a gathered write is due.
    pub fn single(&self) -> Option<&[u8]> {
        let mut parts = self.parts();
        match (parts.next(), parts.next()) {
            (None, _) => Some(&self.tail[self.tail_written..]),
            (Some(only), None) if self.tail.is_empty() => Some(only),
            _ => None,
        }
    }

    /// Takes out the next bytes to write, in one piece, for somebody who writes them later. They count as unwritten until they
    /// are [`returned`](Output::returned).
    pub fn lend(&mut self) -> Option<Lent> {
        let lent =
            match self.queue.as_mut().and_then(|queue| queue.parts.pop_front().map(|part| (queue, part))) {
                Some((queue, Part { bytes, owned_bytes })) => {
                    queue.bytes -= bytes.len();
                    queue.owned_bytes -= owned_bytes;
                    self.queue.take_if(|queue| queue.parts.is_empty());
                    self.owned_lent = owned_bytes;
                    Lent { bytes: Piece::Shared(bytes), written: 0 }
                }
                None if self.tail.len() > self.tail_written => {
                    let written = std::mem::take(&mut self.tail_written);
                    self.owned_lent = self.tail.capacity();
                    Lent { bytes: Piece::Owned(std::mem::take(&mut self.tail)), written }
                }
                None => return None,
            };
        self.lent += lent.as_slice().len();
        Some(lent)
    }

    /// Takes note that `written` of the bytes that were lent are with the kernel now.
    pub fn returned(&mut self, written: usize) {
        self.lent -= written;
        self.written += written as u64;
        self.charge.lower(self.owned_bytes());
    }

    /// Takes note that the first `written` bytes are with the kernel now.
    pub fn consume(&mut self, written: usize) {
        self.forget(written);
        self.charge.lower(self.owned_bytes());
    }

    fn forget(&mut self, mut written: usize) {
        self.written += written as u64;
        if let Some(queue) = &mut self.queue {
            while let Some(front) = queue.parts.front_mut() {
                let part = written.min(front.bytes.len());
                front.bytes.advance(part);
                queue.bytes -= part;
                written -= part;
                if !front.bytes.is_empty() {
                    return;
                }
                // What is half written is held as a whole.
                queue.owned_bytes -= front.owned_bytes;
                queue.parts.pop_front();
            }
        }
        self.tail_written += written;
        debug_assert!(self.tail_written <= self.tail.len(), "more written than there was");
        if self.tail_written < self.tail.len() {
            if self.tail_written >= COMPACT_BYTES && self.tail_written > self.tail.len() / 2 {
                self.tail.drain(..std::mem::take(&mut self.tail_written));
            }
            return;
        }
        self.tail_written = 0;
        if self.retain {
            self.tail.clear();
        } else {
            give_back(std::mem::take(&mut self.tail));
            self.queue = None;
        }
    }

    /// Forgets everything that is not written yet: the connection has ended.
    pub fn clear(&mut self) {
        let left = self.len() - self.lent;
        self.consume(left);
    }
}

/// Bytes that were taken out of an [`Output`]. They stay where they are in memory until this is dropped, also when this is moved.
#[derive(Debug)]
pub struct Lent {
    bytes: Piece,
    written: usize,
}

#[derive(Debug)]
enum Piece {
    Owned(Vec<u8>),
    Shared(Bytes),
}

impl Lent {
    /// What is left to write.
    pub fn as_slice(&self) -> &[u8] {
        match &self.bytes {
            Piece::Owned(bytes) => &bytes[self.written..],
            Piece::Shared(bytes) => &bytes[self.written..],
        }
    }

    /// Takes note that the first `written` bytes are with the kernel now. True: something is left.
    pub fn consume(&mut self, written: usize) -> bool {
        self.written += written;
        !self.as_slice().is_empty()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Piece::Owned(bytes) = &mut self.bytes {
            give_back(std::mem::take(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_in_steps(output: &mut Output, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let used = output.slices(&mut slices);
            let flat: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
            let part = step.min(flat.len());
            all.extend_from_slice(&flat[..part]);
            output.consume(part);
        }
        all
    }

    #[test]
    fn order_is_kept_between_copies_and_references() {
        for step in [1, 2, 3, 7, 100, 10_000] {
            let mut output = Output::default();
            let big = Bytes::from(vec![b'b'; 3000]);
            output.copy(b"one ");
            output.share(&Bytes::from_static(b"two "));
            output.share(&big);
            output.copy(b"three");
            output.push(Bytes::from_static(b" four"));
            assert_eq!(output.len(), 4 + 4 + 3000 + 5 + 5);
            let mut expected = b"one two ".to_vec();
            expected.extend_from_slice(&big);
            expected.extend_from_slice(b"three four");
            assert_eq!(written_in_steps(&mut output, step), expected);
        }
    }

    #[test]
    fn a_reference_behind_a_half_written_copy_repeats_nothing() {
        let mut output = Output::default();
        output.copy(b"abcdef");
        output.consume(3);
        output.push(Bytes::from_static(b"ghi"));
        assert_eq!(written_in_steps(&mut output, 2), b"defghi");
    }

    #[test]
    fn of_what_was_begun_elsewhere_only_the_rest_is_left() {
        for (length, written) in [(10, 10), (10, 4), (10, 0), (5000, 4999), (5000, 1)] {
            let bytes = Bytes::from((0..length).map(|i| i as u8).collect::<Vec<_>>());
            let mut output = Output::default();
            output.begun(&bytes, written);
            output.copy(b"behind it");
            assert_eq!((output.len(), output.written()), (length - written + 9, written as u64));
            let expected = [&bytes[written..], b"behind it"].concat();
            assert_eq!(written_in_steps(&mut output, 7), expected);
        }
    }

    #[test]
    fn what_is_lent_counts_until_it_is_written() {
        let mut output = Output::default();
        output.copy(b"abcdef");
        output.consume(2);
        output.push(Bytes::from_static(b"ghi"));
        output.copy(b"j");
        let mut lent = output.lend().unwrap();
        assert_eq!((lent.as_slice(), output.len()), (&b"cdef"[..], 8));
        output.copy(b"k");
        assert!(lent.consume(3));
        output.returned(3);
        assert_eq!((lent.as_slice(), output.len(), output.written()), (&b"f"[..], 6, 5));
        assert!(!lent.consume(1));
        output.returned(1);
        assert_eq!(output.lend().unwrap().as_slice(), b"ghi");
        assert_eq!(output.lend().unwrap().as_slice(), b"jk");
        assert!(output.lend().is_none() && output.len() == 5);
        output.returned(5);
        assert!(output.is_empty());
    }

    #[test]
    fn an_idle_output_owns_no_buffer_unless_it_was_told_to() {
        let mut output = Output::default();
        output.copy(b"abc");
        output.push(Bytes::from_static(b"def"));
        output.consume(6);
        assert!(output.tail.capacity() == 0 && output.queue.is_none());

        let mut output = Output::retaining();
        output.copy(b"abc");
        output.consume(3);
        assert!(output.tail.capacity() >= 3);
        assert!(output.is_empty());
    }
}
