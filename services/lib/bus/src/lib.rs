//! The bus trait and the in-process bus: news between processes, a hint and never the truth.
