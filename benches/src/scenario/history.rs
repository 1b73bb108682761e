//! Paging back through a room, 50 messages a page.

use std::time::Instant;

use clap::Args;

use super::send;
use crate::error::LoadError;
use crate::meter::{Meter, Tally};
use crate::report::Row;
use crate::target::Target;

/// Sizes of `history`.
#[derive(Args, Clone, Debug)]
pub struct History {
    /// Messages in the room.
    #[arg(long, default_value_t = 5000)]
    pub messages: usize,
    /// Pages read; begins anew at the end whenever the beginning is reached.
    #[arg(long, default_value_t = 1000)]
    pub pages: usize,
}

impl History {
    /// Runs it.
    pub(super) async fn run(&self, target: &Target) -> Result<Vec<Row>, LoadError> {
        if self.messages < 50 {
            return Err(LoadError::Argument("history needs 50 messages or more".into()));
        }
        let senders = send::in_one_room(target, 4).await?;
        let (mut senders, _) = send::send_all(senders, self.messages).await?;
        let Some((mut user, rooms)) = senders.pop() else { return Ok(Vec::new()) };
        let meter = Meter::start(target)?;
        let mut tally = Tally::new()?;
        let mut from: Option<String> = None;
        for _ in 0..self.pages {
            let began = Instant::now();
            let outcome = user.page(&rooms[0], from.as_deref()).await;
            let took = began.elapsed();
            let page = outcome.and_then(|page| {
                let whole = page.chunk.len() == 50 || from.is_some() && page.chunk.len() < 50;
                if whole { Ok(page) } else { Err(LoadError::Shape(format!("{} messages", page.chunk.len()))) }
            });
            // A short page is the room's beginning: not a page of 50, so not counted.
            match page {
                Ok(page) if page.chunk.len() < 50 => from = None,
                other => from = tally.note(took, other).and_then(|page| page.end),
            }
        }
        Ok(vec![meter.finish("history", format!("{} messages", self.messages), tally)?])
    }
}
