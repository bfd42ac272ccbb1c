//! The control thread: signals, watchdog, name resolution, admin listener, metrics collection.
