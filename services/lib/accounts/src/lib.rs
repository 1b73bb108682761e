//! Accounts, tokens, devices, end-to-end keys, inboxes, user records.
