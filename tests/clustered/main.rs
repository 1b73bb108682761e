//! A whole cluster of real processes behind a proxy that gives every request to another instance, treated badly.
//! `tests/servers/install` brings what it stands on. One cluster at a time.

mod chat;
mod closed;
mod counts;
mod killed;
mod names;
mod outages;
mod owners;
mod restored;
mod stored;
mod tool;

use polity_tests::cluster::{Cluster, Shape};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// A cluster, and the right to be the only one who asks anything of one.
struct Alone<C> {
    cluster: C,
    _turn: MutexGuard<'static, ()>,
}

/// One at a time: the machine is small.
static TURN: Mutex<()> = Mutex::const_new(());

/// A cluster of one's own, to be treated badly.
async fn own(shape: Shape) -> Alone<Cluster> {
    let turn = TURN.lock().await;
    Alone { cluster: Cluster::start(shape).await, _turn: turn }
}

/// The cluster of those who only speak to it.
async fn shared() -> Alone<&'static Cluster> {
    static SHARED: OnceCell<Cluster> = OnceCell::const_new();
    let turn = TURN.lock().await;
    let cluster = SHARED.get_or_init(async || Cluster::start(Shape::for_tests()).await).await;
    Alone { cluster, _turn: turn }
}

/// A number from the environment.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seed of a run: the one that is asked for, or any.
#[expect(clippy::print_stdout, reason = "what a failed test shows")]
fn seed() -> u64 {
    let seed = given("POLITY_SEED").unwrap_or_else(rand::random);
    println!("POLITY_SEED={seed}");
    seed
}
