//! What every bus must do, as plain functions over a factory.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use polity_core::{LogId, TenantId};
use tokio::time::timeout;

use crate::{Bus, Message, News, Receiver, Subject, SubjectKind};

const SOON: Duration = Duration::from_secs(5);
const A_WHILE: Duration = Duration::from_millis(50);

/// A subject to test with.
#[must_use]
pub fn subject(n: u8) -> Subject {
    Subject::new(SubjectKind::Room, TenantId::new(7), LogId::new([n; 16]))
}

/// Runs everything, one after another.
pub async fn all(bus: Arc<dyn Bus>) {
    in_order_to_subscribers_only(&*bus).await;
    tenants_and_kinds_are_apart(&*bus).await;
    nothing_after_unsubscribe(&*bus).await;
    a_slow_receiver_is_told_that_it_lost(&*bus).await;
    a_dropped_receiver_ends(&*bus).await;
}

async fn next(receiver: &mut Box<dyn Receiver>) -> News {
    timeout(SOON, receiver.next()).await.expect("news arrives").expect("it is still subscribed")
}

async fn assert_quiet(receiver: &mut Box<dyn Receiver>) {
    assert!(timeout(A_WHILE, receiver.next()).await.is_err(), "unexpected news");
}

fn message(subject: Subject, payload: &[u8]) -> News {
    News::Message(Message { subject, payload: Bytes::copy_from_slice(payload) })
}

/// One publisher's messages arrive in order, once, at everybody who subscribed and at nobody else.
pub async fn in_order_to_subscribers_only(bus: &dyn Bus) {
    let (first_subjects, mut first) = bus.receiver(64);
    let (second_subjects, mut second) = bus.receiver(64);
    let (other_subjects, mut other) = bus.receiver(64);
    first_subjects.subscribe(subject(1));
    first_subjects.subscribe(subject(1));
    second_subjects.subscribe(subject(1));
    other_subjects.subscribe(subject(2));
    tokio::join!(first_subjects.settled(), second_subjects.settled(), other_subjects.settled());
    for n in 0..20 {
        bus.publish(subject(1), Bytes::copy_from_slice(&[n]));
    }
    for n in 0..20 {
        assert_eq!(next(&mut first).await, message(subject(1), &[n]));
        assert_eq!(next(&mut second).await, message(subject(1), &[n]));
    }
    assert_quiet(&mut first).await;
    assert_quiet(&mut other).await;
}

/// The same id under another tenant or kind is another subject.
pub async fn tenants_and_kinds_are_apart(bus: &dyn Bus) {
    let (subjects, mut receiver) = bus.receiver(8);
    subjects.subscribe(subject(1));
    subjects.settled().await;
    bus.publish(Subject { tenant: TenantId::new(8), ..subject(1) }, Bytes::from_static(b"tenant"));
    bus.publish(Subject { kind: SubjectKind::User, ..subject(1) }, Bytes::from_static(b"kind"));
    assert_quiet(&mut receiver).await;
}

/// Unsubscribing ends it, also for a subject that was never subscribed.
pub async fn nothing_after_unsubscribe(bus: &dyn Bus) {
    let (subjects, mut receiver) = bus.receiver(8);
    subjects.subscribe(subject(1));
    subjects.unsubscribe(subject(1));
    subjects.unsubscribe(subject(2));
    subjects.settled().await;
    bus.publish(subject(1), Bytes::new());
    assert_quiet(&mut receiver).await;
}

/// A full receiver loses messages, is told so, and goes on.
pub async fn a_slow_receiver_is_told_that_it_lost(bus: &dyn Bus) {
    let (subjects, mut receiver) = bus.receiver(2);
    subjects.subscribe(subject(1));
    subjects.settled().await;
    for n in 0..10 {
        bus.publish(subject(1), Bytes::copy_from_slice(&[n]));
    }
    // All of them have been on their way before the first is taken.
    tokio::time::sleep(A_WHILE).await;
    let mut lost = 0;
    let mut got = 0;
    while let Ok(Some(news)) = timeout(A_WHILE, receiver.next()).await {
        match news {
            News::Lost => lost += 1,
            News::Message(_) => got += 1,
        }
    }
    assert!(lost >= 1 && (1..10).contains(&got), "lost {lost}, got {got}");
    bus.publish(subject(1), Bytes::from_static(b"again"));
    assert_eq!(next(&mut receiver).await, message(subject(1), b"again"));
}

/// A receiver whose subscriptions were dropped ends, after what it had received.
pub async fn a_dropped_receiver_ends(bus: &dyn Bus) {
    let (subjects, mut receiver) = bus.receiver(2);
    subjects.subscribe(subject(1));
    subjects.settled().await;
    drop(subjects);
    assert_eq!(timeout(SOON, receiver.next()).await, Ok(None));
}
