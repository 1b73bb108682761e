//! The composition root and the binaries: the only crate that names a backend.
