//! Joins, one after another, of rooms that already have a number of members.

use std::time::Instant;

use clap::Args;

use crate::error::LoadError;
use crate::matrix;
use crate::meter::{Meter, Tally};
use crate::report::Row;
use crate::target::Target;

/// Sizes of `join`.
#[derive(Args, Clone, Debug)]
pub struct Join {
    /// Members before the measured joins, ascending; several with commas.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1000])]
    pub members: Vec<usize>,
    /// Measured joins at each size.
    #[arg(long, default_value_t = 100)]
    pub joins: usize,
}

impl Join {
    /// Runs it.
    pub(super) async fn run(&self, target: &Target) -> Result<Vec<Row>, LoadError> {
        let mut rows = Vec::with_capacity(self.members.len());
        for size in &self.members {
            let mut users = matrix::register_many(target, (*size).max(1)).await?;
            let room = users[0].create_room().await?;
            matrix::join_all(&mut users[1..], &room).await?;
            drop(users);
            let mut joiners = matrix::register_many(target, self.joins).await?;
            let meter = Meter::start(target)?;
            let mut tally = Tally::new()?;
            for user in &mut joiners {
                let began = Instant::now();
                let outcome = user.join(&room).await;
                tally.note(began.elapsed(), outcome);
            }
            rows.push(meter.finish("join", format!("room of {size}"), tally)?);
        }
        Ok(rows)
    }
}
