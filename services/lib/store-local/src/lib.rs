//! The embedded store: on disk (synced, group commit) and in memory.
