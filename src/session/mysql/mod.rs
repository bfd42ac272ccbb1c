//! MySQL sessions, both roles.
