//! How many rows to ask for at once: CQL counts pages in rows, memory counts in bytes.

use std::sync::atomic::{AtomicUsize, Ordering};

use polity_store::Table;

/// Bytes after which a scan gives what it has.
pub(crate) const PAGE_BYTES: usize = 4 << 20;

/// About how large the rows of each table are, so that a page from the server has a bounded size: CQL counts pages in rows.
pub(crate) struct RowSizes([AtomicUsize; 256]);

impl Default for RowSizes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicUsize::new(0)))
    }
}

impl RowSizes {
    /// Rows of a scan's first page: few until the size of the table's rows is known.
    pub(crate) fn first_page(&self, table: &Table) -> i32 {
        match self.0[usize::from(table.number)].load(Ordering::Relaxed) {
            0 => 16,
            size => i32::try_from((PAGE_BYTES / size).clamp(16, 128)).unwrap_or(16),
        }
    }

    /// Rows of the next page of a scan that has read so many rows and bytes.
    pub(crate) fn next_page(&self, table: &Table, rows: usize, bytes: usize) -> i32 {
        if rows == 0 {
            return self.first_page(table);
        }
        let size = bytes.div_ceil(rows).max(1);
        let known = &self.0[usize::from(table.number)];
        let before = known.load(Ordering::Relaxed);
        // Goes up at once and down slowly.
        known.store(if before > size { before - (before - size) / 8 } else { size }, Ordering::Relaxed);
        i32::try_from((PAGE_BYTES.saturating_sub(bytes) / size).clamp(1, 1000)).unwrap_or(1)
    }
}
