//! What is done to the server while it is treated badly: one kind of thing a file. Each actor does one thing after the other, so that
//! what it was promised has an order.

mod account_data;
mod barred;
mod devices;
mod fickle;
mod found;
mod guest;
mod invited;
mod keys;
mod last_words;
mod membership;
mod neighbour;
mod profile;
mod receipts;
mod register;
mod sessions;
mod to_device;
mod tracker;
mod write;

use std::sync::Arc;

use polity_core::tasks;
use tokio::task::JoinHandle;

use super::{
    mix::{Actor, Mix},
    world::World,
};

/// Starts an actor.
pub(super) fn start(actor: Actor, world: &Arc<World>) -> JoinHandle<()> {
    let world = Arc::clone(world);
    match actor {
        Actor::Writer(me) => tasks::spawn(write::write(world, me)),
        Actor::Guest => tasks::spawn(membership::come_and_go(world)),
        Actor::DeviceSender(me) => tasks::spawn(to_device::send(world, me)),
        Actor::Keys => tasks::spawn(keys::upload_and_claim(world)),
        Actor::Devices => tasks::spawn(devices::change(world)),
        Actor::AccountData => tasks::spawn(account_data::set(world)),
        Actor::Newcomers => tasks::spawn(register::register(world)),
        Actor::Founder => tasks::spawn(found::found(world)),
        Actor::Fickle => tasks::spawn(fickle::ask_once(world)),
        Actor::Barred => tasks::spawn(barred::try_the_door(world)),
        Actor::LastWords => tasks::spawn(last_words::say(world)),
        Actor::Profile => tasks::spawn(profile::change(world)),
        Actor::Neighbour => tasks::spawn(neighbour::live_apart(world)),
        Actor::Receipts => tasks::spawn(receipts::read(world)),
        Actor::Sessions => tasks::spawn(sessions::come_and_go(world)),
    }
}

/// Starts those who follow the actors by sync, until everything is quiet.
pub(super) fn follow(world: &Arc<World>, mix: &Mix) -> Vec<JoinHandle<()>> {
    let acts = |who: fn(&Actor) -> bool| mix.actors.iter().any(who);
    let mut following = Vec::new();
    if acts(|actor| matches!(actor, Actor::DeviceSender(_))) {
        following.push(tasks::spawn(to_device::receive(Arc::clone(world))));
    }
    if acts(|actor| *actor == Actor::AccountData) {
        following.push(tasks::spawn(account_data::follow(Arc::clone(world))));
    }
    if acts(|actor| *actor == Actor::Devices) {
        following.push(tasks::spawn(tracker::follow(Arc::clone(world))));
    }
    if acts(|actor| *actor == Actor::Guest) {
        following.push(tasks::spawn(guest::follow(Arc::clone(world))));
    }
    following
}
