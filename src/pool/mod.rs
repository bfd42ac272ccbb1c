//! Pools of upstream connections: pure bookkeeping of idle lists, waiters and permits, no sockets.
