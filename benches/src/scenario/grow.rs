//! The curves: what a send costs as a room's history grows, and as the number of rooms grows.

use std::sync::Arc;

use clap::Args;

use super::send;
use crate::error::LoadError;
use crate::matrix;
use crate::meter::Meter;
use crate::report::Row;
use crate::target::Target;

/// Senders, while filling and while measuring.
const SENDERS: usize = 16;

/// Sizes of `grow-room`.
#[derive(Args, Clone, Debug)]
pub struct Room {
    /// Events in the room at which a send is measured, ascending.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1000, 10_000, 100_000, 1_000_000])]
    pub events: Vec<usize>,
    /// Measured sends at each point.
    #[arg(long, default_value_t = 5000)]
    pub probe: usize,
}

/// Sizes of `grow-rooms`.
#[derive(Args, Clone, Debug)]
pub struct Rooms {
    /// Numbers of rooms at which a send is measured, ascending.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1000, 10_000])]
    pub rooms: Vec<usize>,
    /// Measured sends at each point.
    #[arg(long, default_value_t = 5000)]
    pub probe: usize,
}

impl Room {
    /// Runs it.
    pub(super) async fn run(&self, target: &Target) -> Result<Vec<Row>, LoadError> {
        let mut senders = send::in_one_room(target, SENDERS).await?;
        let mut rows = Vec::with_capacity(self.events.len());
        let mut sent = 0;
        for point in &self.events {
            let (back, filled) = send::send_all(senders, point.saturating_sub(sent)).await?;
            if filled.errors + filled.limited > 0 {
                return Err(LoadError::Failed(filled.errors + filled.limited));
            }
            let meter = Meter::start(target)?;
            let (back, tally) = send::send_all(back, self.probe).await?;
            senders = back;
            sent = sent.max(*point) + self.probe;
            rows.push(meter.finish("grow-room", format!("{point} events"), tally)?);
        }
        Ok(rows)
    }
}

impl Rooms {
    /// Runs it.
    pub(super) async fn run(&self, target: &Target) -> Result<Vec<Row>, LoadError> {
        let mut users = matrix::register_many(target, SENDERS).await?;
        let mut rooms: Vec<Vec<String>> = vec![Vec::new(); users.len()];
        let mut made = 0;
        let mut rows = Vec::with_capacity(self.rooms.len());
        for point in &self.rooms {
            while made < *point {
                let turn = made % users.len();
                rooms[turn].push(users[turn].create_room().await?);
                made += 1;
            }
            // With fewer rooms than users, those without a room sit this point out.
            let (busy, idle): (Vec<_>, Vec<_>) = users.into_iter().zip(rooms).partition(|(_, own)| !own.is_empty());
            let senders = busy.into_iter().map(|(user, own)| (user, Arc::from(own))).collect();
            let meter = Meter::start(target)?;
            let (back, tally) = send::send_all(senders, self.probe).await?;
            rows.push(meter.finish("grow-rooms", format!("{made} rooms"), tally)?);
            let back = back.into_iter().map(|(user, own)| (user, own.to_vec()));
            (users, rooms) = back.chain(idle).unzip();
        }
        Ok(rows)
    }
}
