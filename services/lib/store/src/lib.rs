//! Storage traits, tables and aggregates, and their conformance suite; no driver.
