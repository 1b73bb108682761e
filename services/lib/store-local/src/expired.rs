//! Rows whose time to live has passed leave the disk when the engine rewrites the files that hold them.

use std::{panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use fjall::compaction::filter::{CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict};
use polity_core::Clock;

use crate::{acknowledged, record};

/// Makes a filter for each rewriting.
pub(crate) struct Expired(AssertUnwindSafe<Arc<dyn Clock>>);

struct At {
    now_s: u64,
}

impl Expired {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self(AssertUnwindSafe(clock))
    }
}

impl Factory for Expired {
    fn name(&self) -> &str {
        "expired"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(At { now_s: self.0.now_ms() / 1000 })
    }
}

impl CompactionFilter for At {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        if item.key().as_ref() == acknowledged::KEY {
            return Ok(Verdict::Keep);
        }
        let expires_s = record::expires_s(&Bytes::from(item.value()?));
        // A clock that went back keeps rows a little longer.
        Ok(if expires_s != 0 && expires_s < self.now_s { Verdict::Remove } else { Verdict::Keep })
    }
}
