//! One core's world: executor, doors, drivers, mailbox, drain.
