//! The protocol between tiers: messages, generated code, local and remote transport.
