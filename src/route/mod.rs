//! Routing: key → placement → endpoint, pure functions of an immutable table.
