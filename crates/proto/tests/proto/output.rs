//! The output queue against a plain vector of bytes.

use std::io::IoSlice;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use switchboard_proto::Output;

#[derive(Debug, Clone)]
enum Step {
    Copy(usize),
    Tail(usize),
    Share(usize),
    Push(usize),
    Reserve(usize),
    /// Write so many per cent of what is there, from the slices of one gathered write.
    Write(usize, usize),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let length = || prop_oneof![4 => 0..40_usize, 1 => 2000..2100_usize, 1 => 30_000..40_000_usize];
    prop_oneof![
        4 => length().prop_map(Step::Copy),
        2 => length().prop_map(Step::Tail),
        4 => length().prop_map(Step::Share),
        2 => length().prop_map(Step::Push),
        1 => length().prop_map(Step::Reserve),
        8 => (1..8_usize, 0..=100_usize).prop_map(|(slices, percent)| Step::Write(slices, percent)),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #[test]
    fn an_output_is_a_queue_of_bytes(steps in vec(step(), 0..60), retain: bool) {
        let mut output = if retain { Output::retaining() } else { Output::default() };
        let mut model: Vec<u8> = Vec::new();
        let mut written = 0;
        let mut next = 0_u8;
        let mut fresh = |length: usize| -> Vec<u8> {
            (0..length).map(|_| { next = next.wrapping_add(1) % 251; next }).collect()
        };
        for step in steps {
            match step {
                Step::Copy(n) => { let b = fresh(n); output.copy(&b); model.extend(b); }
                Step::Tail(n) => { let b = fresh(n); output.tail().extend_from_slice(&b); model.extend(b); }
                Step::Share(n) => { let b = fresh(n); output.share(&b.clone().into()); model.extend(b); }
                Step::Push(n) => { let b = fresh(n); output.push(b.clone().into()); model.extend(b); }
                Step::Reserve(n) => output.reserve(n),
                Step::Write(slots, percent) => {
                    let mut slices = vec![IoSlice::new(&[]); slots];
                    let used = output.slices(&mut slices);
                    let bytes: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.to_vec()).collect();
                    prop_assert!(model.starts_with(&bytes));
                    prop_assert!(model.is_empty() || used > 0);
                    prop_assert!(used == slots || bytes.len() == model.len(), "slices hold back bytes");
                    let part = bytes.len() * percent / 100;
                    output.consume(part);
                    model.drain(..part);
                    written += part as u64;
                }
                Step::Clear => { output.clear(); written += model.len() as u64; model.clear(); }
            }
            prop_assert_eq!(output.len(), model.len());
            prop_assert_eq!(output.is_empty(), model.is_empty());
            prop_assert_eq!(output.written(), written);
            if let Some(single) = output.single() {
                prop_assert_eq!(single, &model[..]);
            }
        }
    }
}

#[test]
fn a_queue_that_is_never_quite_empty_does_not_grow() {
    // A receiver always a little behind: for hours there is never a moment without something unsent.
    let mut output = Output::default();
    output.copy(&[0; 1000]);
    for _ in 0..100_000 {
        output.copy(&[0; 1000]);
        output.consume(1000);
    }
    assert_eq!(output.len(), 1000);
    let capacity = output.tail().capacity();
    assert!(capacity <= 1 << 20, "{capacity} bytes for 1000 that are unsent");
}

#[test]
fn long_bytes_go_by_reference_and_short_ones_together() {
    let long = Bytes::from(vec![1; 10_000]);
    let mut output = Output::default();
    for _ in 0..10 {
        output.share(&Bytes::from_static(b"short"));
    }
    assert_eq!(output.single().map(<[u8]>::len), Some(50), "one write for all");
    output.share(&long);
    let mut slices = [IoSlice::new(&[]); 4];
    assert_eq!(output.slices(&mut slices), 2);
    assert_eq!(slices[1].as_ptr(), long.as_ptr());
}
