use std::time::{Duration, Instant};

use super::*;

fn topics(max_topics: usize, history_events: usize, history_bytes: usize) -> Topics {
    Topics::new(&App { max_topics, history_events, history_bytes, ..App::default() })
}

fn publish(topics: &mut Topics, topic: &str, data: &'static str) -> u64 {
    try_publish(topics, topic, Bytes::from_static(data.as_bytes())).unwrap().id()
}

fn try_publish(topics: &mut Topics, topic: &str, data: Bytes) -> Result<Arc<Outgoing>, PublishError> {
    topics.publish(topic, None, Kind::Text, data, |_| false)
}

fn ids(since: &Since) -> Vec<u64> {
    since.events.iter().map(|event| event.id()).collect()
}

#[test]
fn ids_rise_by_one_in_each_topic() {
    let mut topics = topics(10, 10, 1 << 20);
    assert_eq!(publish(&mut topics, "a", "1"), 1);
    assert_eq!(publish(&mut topics, "b", "1"), 1);
    assert_eq!(publish(&mut topics, "a", "2"), 2);
    assert_eq!(ids(&topics.since("a", Some(0.into()), usize::MAX)), [1, 2]);
    assert_eq!(ids(&topics.since("a", Some(1.into()), usize::MAX)), [2]);
    assert_eq!(ids(&topics.since("a", Some(2.into()), usize::MAX)), [0; 0]);
    assert_eq!(
        (topics.since("a", None, 0).newest, topics.since("nothing", Some(3.into()), 0).newest),
        (2, 0)
    );
}

#[test]
fn what_is_no_longer_held_is_counted_as_missed() {
    let mut topics = topics(10, 3, 1 << 20);
    (0..5).for_each(|_| assert_ne!(publish(&mut topics, "a", "x"), 0));
    let since = topics.since("a", Some(0.into()), usize::MAX);
    assert_eq!((ids(&since), since.missed, since.newest), (vec![3, 4, 5], 2, 5));
    assert_eq!(topics.since("a", Some(2.into()), usize::MAX).missed, 0);
    assert!(!topics.since("a", Some(5.into()), usize::MAX).restarted);
}

#[test]
fn to_who_had_an_event_of_another_run_all_that_is_held_is_new() {
    let (this, other): (Option<Epoch>, Option<Epoch>) = ("2".parse().ok(), "1".parse().ok());
    let started = Some((Instant::now(), Duration::from_millis(2)));
    let mut topics = Topics::new(&App { history_events: 3, started, ..App::default() });
    (0..5).for_each(|_| assert_ne!(publish(&mut topics, "a", "x"), 0));
    let mut since = |topic, id, epoch| topics.since(topic, Some(Cursor { id, epoch }), usize::MAX);
    // The smaller number, the same one, the larger one; and that of a server without a clock, which only the larger one gives away.
    for cursor in [(2, other), (5, other), (77, other), (0, other), (77, None), (77, this)] {
        let since = since("a", cursor.0, cursor.1);
        assert_eq!((ids(&since), since.missed, since.restarted), (vec![3, 4, 5], 2, true), "{cursor:?}");
        assert_eq!((since.newest, since.epoch), (5, this));
    }
    for cursor in [(3, this), (3, None)] {
        let since = since("a", cursor.0, cursor.1);
        assert_eq!((ids(&since), since.missed, since.restarted), (vec![4, 5], 0, false), "{cursor:?}");
    }
    // Nothing has been said there since the server was started again: that as well has to be told.
    let nothing = since("b", 3, other);
    assert_eq!((nothing.newest, nothing.epoch, nothing.restarted), (0, this, true));
    assert!(!since("b", 0, this).restarted);
    assert_eq!(topics.since("a", None, 0).epoch, this);
}

#[test]
fn all_topics_together_hold_no_more_bytes_than_they_may() {
    let one = Outgoing::new("a".into(), 1, None, Kind::Text, Bytes::from_static(b"0123456789")).held_bytes();
    let mut topics = topics(10, 100, 4 * one);
    (0..3).for_each(|_| assert_ne!(publish(&mut topics, "a", "0123456789"), 0));
    (0..3).for_each(|_| assert_ne!(publish(&mut topics, "b", "0123456789"), 0));
    assert_eq!(topics.held.bytes, 4 * one);
    assert_eq!(ids(&topics.since("a", Some(0.into()), usize::MAX)), [3]);
    assert_eq!(ids(&topics.since("b", Some(0.into()), usize::MAX)), [1, 2, 3]);
    // One that does not fit at all is numbered and passed on, and whoever comes later has missed it.
    let big = Bytes::from(vec![b'x'; 5 * one]);
    assert_eq!(try_publish(&mut topics, "b", big).unwrap().id(), 4);
    let since = topics.since("b", Some(1.into()), usize::MAX);
    assert_eq!((ids(&since), since.missed), (vec![], 3));
    (0..100).for_each(|_| assert_ne!(publish(&mut topics, "c", "0123456789"), 0));
    assert_eq!((topics.held.bytes, topics.held.events), (4 * one, 4));
}

#[test]
fn a_busy_topic_costs_no_memory_behind_a_quiet_one() {
    let mut topics = topics(10, 2, 1 << 20);
    publish(&mut topics, "quiet", "x");
    (0..1000).for_each(|_| assert_ne!(publish(&mut topics, "busy", "x"), 0));
    assert!(topics.order.len() <= 2 * topics.held.events + SPARE_PLACES + 1, "{}", topics.order.len());
    assert_eq!(ids(&topics.since("quiet", Some(0.into()), 0)), [1]);
}

#[test]
fn an_answer_is_no_longer_than_it_may_be() {
    let mut topics = topics(10, 100, 1 << 20);
    (0..5).for_each(|_| assert_ne!(publish(&mut topics, "a", "0123456789"), 0));
    assert_eq!(ids(&topics.since("a", Some(0.into()), 25)), [1, 2]);
    assert_eq!(ids(&topics.since("a", Some(2.into()), 0)), [3]);
}

#[test]
fn a_topic_that_is_forgotten_leaves_nothing_behind() {
    let mut topics = topics(1, 10, 1 << 20);
    publish(&mut topics, "a", "x");
    for round in 0..1000 {
        // It does not count as one of those that there may be.
        let name = format!("reserved {round}");
        topics.reserve(&name);
        assert_eq!(try_publish(&mut topics, &name, Bytes::from_static(b"y")).unwrap().id(), 1);
        assert_eq!(ids(&topics.since(&name, Some(0.into()), usize::MAX)), [1]);
        topics.forget(&name);
        assert_eq!(topics.since(&name, None, 0).newest, 0);
    }
    topics.forget("never reserved");
    assert_eq!((topics.topics.len(), topics.held.events, topics.reserved), (1, 1, 0));
    assert!(topics.order.len() <= 2 + SPARE_PLACES + 1, "{}", topics.order.len());
    assert_eq!(ids(&topics.since("a", Some(0.into()), usize::MAX)), [1]);
    // What is held still goes by its age when there is too much.
    topics.max_bytes = topics.held.bytes;
    publish(&mut topics, "a", "z");
    assert_eq!(ids(&topics.since("a", Some(0.into()), usize::MAX)), [2]);
}

#[test]
fn the_least_recently_used_topic_is_forgotten_for_a_new_one() {
    let mut topics = topics(2, 10, 1 << 20);
    publish(&mut topics, "a", "x");
    publish(&mut topics, "b", "x");
    // Reading is a use as well.
    topics.since("a", None, 0);
    publish(&mut topics, "c", "x");
    assert!(topics.topics.contains_key("a") && !topics.topics.contains_key("b"));
    publish(&mut topics, "c", "x");
    publish(&mut topics, "d", "x");
    let mut left: Vec<&str> = topics.topics.keys().map(|name| &**name).collect();
    left.sort_unstable();
    assert_eq!((left, topics.held.events), (vec!["c", "d"], 3));
}

#[test]
fn a_topic_with_subscribers_is_not_forgotten() {
    let mut topics = topics(2, 10, 1 << 20);
    // Whether it was there when they came or not.
    topics.subscribe(Port(1), "a");
    publish(&mut topics, "a", "x");
    publish(&mut topics, "b", "x");
    topics.subscribe(Port(2), "b");
    topics.note_room("b", true);
    let refused = try_publish(&mut topics, "c", Bytes::new());
    assert_eq!(refused.unwrap_err(), PublishError::TooManyTopics(2));
    assert_eq!(publish(&mut topics, "a", "y"), 2);
    topics.unsubscribe(Port(2));
    assert!(try_publish(&mut topics, "c", Bytes::new()).is_err());
    topics.note_room("b", false);
    publish(&mut topics, "c", "x");
    assert!(topics.topics.contains_key("a") && !topics.topics.contains_key("b"));
    // Nor one that somebody else asks to be kept.
    topics.unsubscribe(Port(1));
    let kept = topics.publish("d", None, Kind::Text, Bytes::new(), |_| true);
    assert_eq!(kept.unwrap_err(), PublishError::TooManyTopics(2));
    publish(&mut topics, "d", "x");
    assert!(topics.topics.contains_key("d") && topics.topics.len() == 2);
}

#[test]
fn what_is_noted_of_topics_does_not_grow_with_their_use() {
    let mut topics = topics(3, 1, 1 << 20);
    for round in 0..1000 {
        publish(&mut topics, &format!("{}", round % 5), "x");
        topics.subscribe(Port(1), "0");
        topics.unsubscribe(Port(1));
        assert!(topics.idle.len() <= 2 * 3, "{} after {round}", topics.idle.len());
    }
}

#[test]
fn a_topic_that_is_made_again_goes_on_above_all_that_were_forgotten() {
    let mut topics = topics(1, 10, 1 << 20);
    (0..5).for_each(|_| assert_ne!(publish(&mut topics, "a", "x"), 0));
    assert_eq!(publish(&mut topics, "b", "x"), 6);
    // Whoever asks for what is forgotten learns that there was something, and where to go on.
    let since = |topics: &mut Topics, id: u64| {
        let since = topics.since("a", Some(id.into()), usize::MAX);
        (since.missed, since.restarted, since.newest, ids(&since))
    };
    assert_eq!(since(&mut topics, 3), (2, false, 5, vec![]));
    assert_eq!(since(&mut topics, 5), (0, false, 5, vec![]));
    assert_eq!(publish(&mut topics, "a", "x"), 7);
    for (cursor, missed) in [(0, 6), (3, 3), (6, 0)] {
        assert_eq!(since(&mut topics, cursor), (missed, false, 7, vec![7]), "{cursor}");
    }
    assert_eq!(since(&mut topics, 7), (0, false, 7, vec![]));
}
