//! The one log engine: head, append, group commit, fence, projections, registry of activations.
