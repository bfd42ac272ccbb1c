//! Which changes of a configuration a running node can take over.

use crate::config::Snapshot;

/// Names of the settings that differ and cannot change while the node runs.
///
/// Sockets and executors are made once, before the node is ready: a change needs a restart.
pub(super) fn fixed_changes(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let mut fixed = Vec::new();
    if old.cores != new.cores {
        fixed.push("cores".to_owned());
    }
    if old.admin != new.admin {
        fixed.push("admin.address".to_owned());
    }
    if old.buffers != new.buffers {
        fixed.push("buffers".to_owned());
    }
    if old.logging.target != new.logging.target {
        fixed.push("logging.target".to_owned());
    }
    if new.node.server_version.is_none() && old.node.server_version.is_some() {
        // Upstreams are asked for their version at the start only.
        fixed.push("node.server_version (removed)".to_owned());
    }
    for listener in &old.listeners {
        let name = &listener.name;
        match new.listeners.iter().find(|other| other.name == *name) {
            None => fixed.push(format!("listeners.{name} (removed)")),
            Some(other) => {
                let same = other.address == listener.address
                    && other.protocol == listener.protocol
                    && other.backlog == listener.backlog
                    && other.socket == listener.socket;
                if !same {
                    fixed.push(format!("listeners.{name}"));
                }
            }
        }
    }
    for listener in &new.listeners {
        if !old
            .listeners
            .iter()
            .any(|other| other.name == listener.name)
        {
            fixed.push(format!("listeners.{} (added)", listener.name));
        }
    }
    fixed
}
