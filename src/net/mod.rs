//! The network ring: sockets, buffers and deadlines of one core. The only module with unsafe code.
