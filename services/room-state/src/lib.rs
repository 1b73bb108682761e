//! Room tasks: the only writers of rooms.
