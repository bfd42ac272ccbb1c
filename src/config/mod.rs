//! Configuration: raw TOML text → checked → immutable snapshot; every problem is reported at once.
