//! The codec without any socket: bytes to messages, messages to bytes, and the mask, at 20 B, 1 KiB and 64 KiB.
//!
//! Beside ours stands tungstenite's `WebSocketContext`, with its defaults (buffers of 128 KiB for every
//! connection) and with buffers of 4 KiB. Both sides copy each byte once from or to a stream in memory, as they
//! would by a system call, so that the difference is what the codec does beyond that.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use switchboard_proto::websocket::{Assembler, Incoming, Opcode, Role, encode_header, mask};
use switchboard_proto::{Kind, Output};
use tungstenite::protocol::{self, WebSocketConfig, WebSocketContext};
use tungstenite::{Bytes, Message};

/// Name and payload bytes of each size.
const SIZES: [(&str, usize); 3] = [("20 B", 20), ("1 KiB", 1 << 10), ("64 KiB", 64 << 10)];

/// Bytes read at once, as the loops of the models do.
const READ_BYTES: usize = 64 << 10;

/// Messages that come in one go are about as many as fit into a read.
const BURST_BYTES: usize = 64 << 10;

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .configure_from_args();
    // One message a read, as from a client that waits for each answer: what a read costs by itself shows here.
    let single = Burst::new(20, 1);
    let mut group = criterion.benchmark_group("parse 20 B, one a read");
    group.throughput(Throughput::Elements(1));
    parse_ours(&mut group, &single);
    parse_theirs(&mut group, &single, "tungstenite", WebSocketConfig::default());
    parse_theirs(&mut group, &single, "tungstenite 4 KiB", small_buffers());
    group.finish();

    for (size, payload_bytes) in SIZES {
        let burst = Burst::new(payload_bytes, (BURST_BYTES / payload_bytes).max(1));
        let mut group = criterion.benchmark_group(format!("parse {size}"));
        group.throughput(Throughput::Elements(burst.messages as u64));
        parse_ours(&mut group, &burst);
        parse_theirs(&mut group, &burst, "tungstenite", WebSocketConfig::default());
        parse_theirs(&mut group, &burst, "tungstenite 4 KiB", small_buffers());
        group.finish();

        let mut group = criterion.benchmark_group(format!("encode {size}"));
        group.throughput(Throughput::Elements(burst.messages as u64));
        encode_ours(&mut group, &burst);
        encode_theirs(&mut group, &burst, "tungstenite", WebSocketConfig::default());
        encode_theirs(&mut group, &burst, "tungstenite 4 KiB", small_buffers());
        group.finish();

        let mut group = criterion.benchmark_group(format!("unmask {size}"));
        group.throughput(Throughput::Bytes(payload_bytes as u64));
        unmask(&mut group, &burst);
        group.finish();
    }
    criterion.final_summary();
}

fn small_buffers() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(4096)
}

/// The same message many times, as a client sends it and as a server does.
struct Burst {
    payload: Bytes,
    messages: usize,
    masked: Vec<u8>,
    plain: Vec<u8>,
}

impl Burst {
    fn new(payload_bytes: usize, messages: usize) -> Burst {
        let payload: Vec<u8> = (0..payload_bytes).map(|i| (i * 31 % 251) as u8).collect();
        let mut masked = Vec::new();
        let mut plain = Vec::new();
        for _ in 0..messages {
            frame(&mut masked, &payload, Some(KEY));
            frame(&mut plain, &payload, None);
        }
        Burst { payload: payload.into(), messages, masked, plain }
    }
}

/// A frame written by hand: what is timed must not be what it is checked against.
fn frame(out: &mut Vec<u8>, payload: &[u8], key: Option<[u8; 4]>) {
    let mask_bit = if key.is_some() { 0x80 } else { 0 };
    out.push(0x82);
    match payload.len() {
        short @ 0..126 => out.push(mask_bit | short as u8),
        medium @ 126..65_536 => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&key.unwrap_or_default()[..if key.is_some() { 4 } else { 0 }]);
    let key = key.unwrap_or_default();
    out.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
}

/// A stream in memory: reads the same bytes over and over, keeps what was written to it.
struct Memory<'a> {
    input: &'a [u8],
    at: usize,
    written: Vec<u8>,
}

impl<'a> Memory<'a> {
    fn new(input: &'a [u8]) -> Memory<'a> {
        Memory { input, at: 0, written: Vec::with_capacity(2 * BURST_BYTES) }
    }
}

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.input[self.at..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.at = (self.at + length) % self.input.len();
        Ok(length)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks every message for what a mistake would change first, at a cost that does not hide the codec's.
fn check(received: &[u8], sent: &Bytes) {
    assert_eq!(received.len(), sent.len());
    assert_eq!((received[0], received.last()), (sent[0], sent.last()));
    black_box(received);
}

fn parse_ours(group: &mut BenchmarkGroup<'_, WallTime>, burst: &Burst) {
    let mut stream = Memory::new(&burst.masked);
    let mut assembler = Assembler::new(Role::Server, 16 << 20);
    let mut scratch = vec![0; READ_BYTES];
    let mut parse = |check: fn(&[u8], &Bytes)| {
        let mut parsed = 0;
        while parsed < burst.messages {
            let length = stream.read(&mut scratch).expect("memory");
            let mut input = &mut scratch[..length];
            while let Some(incoming) = assembler.next(&mut input).expect("no violation") {
                let Incoming::Message(Kind::Binary, payload) = incoming else { panic!("not a message") };
                check(&payload, &burst.payload);
                parsed += 1;
            }
        }
        assert_eq!(parsed, burst.messages);
    };
    parse(|received, sent| assert_eq!(received, sent));
    group.bench_function("switchboard", |bencher| bencher.iter(|| parse(check)));
    parse(|received, sent| assert_eq!(received, sent));
}

fn parse_theirs(
    group: &mut BenchmarkGroup<'_, WallTime>,
    burst: &Burst,
    name: &str,
    config: WebSocketConfig,
) {
    let mut stream = Memory::new(&burst.masked);
    let mut context = WebSocketContext::new(protocol::Role::Server, Some(config));
    let mut parse = |check: fn(&[u8], &Bytes)| {
        for _ in 0..burst.messages {
            match context.read(&mut stream).expect("no violation") {
                Message::Binary(payload) => check(&payload, &burst.payload),
                other => panic!("{other}"),
            }
        }
    };
    parse(|received, sent| assert_eq!(received, sent));
    group.bench_function(name, |bencher| bencher.iter(|| parse(check)));
    parse(|received, sent| assert_eq!(received, sent));
}

fn encode_ours(group: &mut BenchmarkGroup<'_, WallTime>, burst: &Burst) {
    let mut stream = Memory::new(&[]);
    let mut output = Output::retaining();
    let mut encode = || {
        stream.written.clear();
        for _ in 0..burst.messages {
            encode_header(output.tail(), Opcode::Binary, burst.payload.len(), None);
            // A short payload goes next to its header, a long one by reference, as in a session.
            output.share(&burst.payload);
        }
        while !output.is_empty() {
            let mut slices = [io::IoSlice::new(&[]); 64];
            let used = output.slices(&mut slices);
            let written = stream.write_vectored(&slices[..used]).expect("memory");
            output.consume(written);
        }
        assert_eq!(stream.written.len(), burst.plain.len());
    };
    group.bench_function("switchboard", |bencher| bencher.iter(&mut encode));
    encode();
    assert_eq!(stream.written, burst.plain);
}

fn encode_theirs(
    group: &mut BenchmarkGroup<'_, WallTime>,
    burst: &Burst,
    name: &str,
    config: WebSocketConfig,
) {
    let mut stream = Memory::new(&[]);
    let mut context = WebSocketContext::new(protocol::Role::Server, Some(config));
    let mut encode = || {
        stream.written.clear();
        for _ in 0..burst.messages {
            context.write(&mut stream, Message::Binary(burst.payload.clone())).expect("memory");
        }
        context.flush(&mut stream).expect("memory");
        assert_eq!(stream.written.len(), burst.plain.len());
    };
    group.bench_function(name, |bencher| bencher.iter(&mut encode));
    encode();
    assert_eq!(stream.written, burst.plain);
}

/// tungstenite's own is not public; a byte at a time is what the RFC writes down.
fn unmask(group: &mut BenchmarkGroup<'_, WallTime>, burst: &Burst) {
    let bytewise = |payload: &mut [u8], key: [u8; 4]| {
        for (i, byte) in payload.iter_mut().enumerate() {
            *byte ^= key[i % 4];
        }
    };
    for (name, unmask) in
        [("switchboard", mask as fn(&mut [u8], [u8; 4])), ("a byte at a time", bytewise as _)]
    {
        let mut payload = burst.payload.to_vec();
        let mut times = 0_usize;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                unmask(black_box(&mut payload), KEY);
                times += 1;
            });
        });
        // Masking is its own inverse: once more if it was done an odd number of times.
        if times % 2 == 1 {
            unmask(&mut payload, KEY);
        }
        assert_eq!(payload, burst.payload);
        let mut masked = Vec::new();
        frame(&mut masked, &payload, Some(KEY));
        unmask(&mut payload, KEY);
        assert_eq!(payload, masked[masked.len() - payload.len()..]);
    }
}
