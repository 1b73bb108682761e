//! What is done to the server while it is killed: one kind of thing a file. Each actor does one thing after the other, so that
//! what it was promised has an order.

mod account_data;
mod found;
mod keys;
mod membership;
mod receipts;
mod register;
mod to_device;
mod write;

use std::{sync::Arc, time::Duration};

use polity_core::tasks;
use rand::{RngExt as _, rngs::StdRng};
use tokio::task::JoinHandle;

use super::world::{WRITERS, World};

/// Starts all actors.
pub(super) fn start(world: &Arc<World>) -> Vec<JoinHandle<()>> {
    let mut tasks: Vec<JoinHandle<()>> = Vec::new();
    for me in 0..WRITERS {
        tasks.push(tasks::spawn(write::write(Arc::clone(world), me)));
    }
    tasks.push(tasks::spawn(membership::come_and_go(Arc::clone(world))));
    for me in 0..2 {
        tasks.push(tasks::spawn(to_device::send(Arc::clone(world), me)));
    }
    tasks.push(tasks::spawn(keys::upload_and_claim(Arc::clone(world))));
    tasks.push(tasks::spawn(account_data::set(Arc::clone(world))));
    tasks.push(tasks::spawn(register::register(Arc::clone(world))));
    tasks.push(tasks::spawn(found::found(Arc::clone(world))));
    tasks.push(tasks::spawn(receipts::read(Arc::clone(world))));
    tasks
}

/// Starts those who follow the actors by sync, until everything is quiet.
pub(super) fn follow(world: &Arc<World>) -> Vec<JoinHandle<()>> {
    vec![tasks::spawn(to_device::receive(Arc::clone(world))), tasks::spawn(account_data::follow(Arc::clone(world)))]
}

/// A moment between two things that needn't be many.
async fn breathe(random: &mut StdRng, at_most_ms: u64) {
    tokio::time::sleep(Duration::from_millis(random.random_range(1..at_most_ms))).await;
}
