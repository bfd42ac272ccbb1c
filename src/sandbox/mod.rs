//! An embedded SQLite shard that speaks the MySQL protocol, for `demo` and tests.
