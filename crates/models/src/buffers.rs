//! The buffers that a ring receives into, and the queue from which the kernel takes them (io_uring_register_buf_ring(3)).

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// The one group of buffers of a ring.
pub(crate) const GROUP: u16 = 0;

/// Receive buffers, and the queue.
pub(crate) struct Buffers {
    /// The queue, one page-aligned allocation.
    queue: NonNull<BufRingEntry>,
    layout: Layout,
    mask: u16,
    /// The end of the queue; the kernel reads it.
    tail: u16,
    memory: Vec<u8>,
    /// Bytes from one buffer to the next.
    stride: usize,
    bytes: usize,
    /// What has been received into each already.
    used: Vec<usize>,
}

/// Buffers that begin at the same place of different pages would compete for the same lines of the cache.
const COLOUR_BYTES: usize = 64;

impl Buffers {
    pub(crate) fn new(ring: &IoUring, count: u16, bytes: usize, flags: u16) -> io::Result<Buffers> {
        let layout = Layout::array::<BufRingEntry>(count.into()).and_then(|layout| layout.align_to(4096));
        let layout = layout.map_err(io::Error::other)?;
        // SAFETY: the layout is not of size zero.
        let queue = unsafe { alloc_zeroed(layout) };
        let queue = NonNull::new(queue.cast()).unwrap_or_else(|| handle_alloc_error(layout));
        let stride = bytes + COLOUR_BYTES;
        let memory = vec![0; stride * usize::from(count)];
        let used = vec![0; count.into()];
        let mut buffers = Buffers { queue, layout, mask: count - 1, tail: 0, memory, stride, bytes, used };
        let address = queue.as_ptr() as u64;
        // SAFETY: queue and memory live as long as the ring, which `Ring` drops first.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, GROUP, flags)? };
        (0..count).for_each(|buffer| buffers.give_back(buffer));
        Ok(buffers)
    }

    /// The next `length` bytes that were received into a buffer.
    pub(crate) fn next(&mut self, buffer: u16, length: usize) -> &mut [u8] {
        let used = &mut self.used[usize::from(buffer)];
        let start = usize::from(buffer) * self.stride + *used;
        *used += length;
        &mut self.memory[start..start + length]
    }

    /// Puts a buffer at the end of the queue.
    pub(crate) fn give_back(&mut self, buffer: u16) {
        self.used[usize::from(buffer)] = 0;
        let start = usize::from(buffer) * self.stride;
        let address = self.memory[start..].as_mut_ptr() as u64;
        let place = usize::from(self.tail & self.mask);
        // SAFETY: the place is inside the queue, and the kernel does not read it before the tail is moved behind it.
        let entry = unsafe { &mut *self.queue.as_ptr().add(place) };
        entry.set_addr(address);
        entry.set_len(self.bytes as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry, is aligned, and is only ever used atomically after the registration.
        let tail = unsafe { &*BufRingEntry::tail(self.queue.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and the ring that used it is gone.
        unsafe { dealloc(self.queue.as_ptr().cast(), self.layout) };
    }
}
