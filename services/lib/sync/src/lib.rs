//! The sync engine and its codecs.
