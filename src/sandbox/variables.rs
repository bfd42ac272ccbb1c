//! System variables: what clients ask for at connect, set, and want back.

use rusqlite::types::Value;
use std::collections::BTreeMap;

/// Names and defaults. Not a server's whole list: what drivers, dumpers and shells read.
const DEFAULTS: [(&str, &str); 75] = [
    ("auto_increment_increment", "1"),
    ("auto_increment_offset", "1"),
    ("autocommit", "1"),
    ("big_tables", "0"),
    ("character_set_client", "utf8mb4"),
    ("character_set_connection", "utf8mb4"),
    ("character_set_database", "utf8mb4"),
    ("character_set_filesystem", "binary"),
    ("character_set_results", "utf8mb4"),
    ("character_set_server", "utf8mb4"),
    ("character_set_system", "utf8mb3"),
    ("collation_connection", "utf8mb4_general_ci"),
    ("collation_database", "utf8mb4_general_ci"),
    ("collation_server", "utf8mb4_general_ci"),
    ("completion_type", "NO_CHAIN"),
    ("default_storage_engine", "InnoDB"),
    ("div_precision_increment", "4"),
    ("event_scheduler", "OFF"),
    ("foreign_key_checks", "1"),
    ("group_concat_max_len", "1024"),
    ("gtid_mode", "OFF"),
    ("have_openssl", "DISABLED"),
    ("have_ssl", "DISABLED"),
    ("hostname", "localhost"),
    ("identity", "0"),
    ("init_connect", ""),
    ("innodb_lock_wait_timeout", "50"),
    ("innodb_version", "8.0.36"),
    ("insert_id", "0"),
    ("interactive_timeout", "28800"),
    ("last_insert_id", "0"),
    ("lc_messages", "en_US"),
    ("lc_time_names", "en_US"),
    ("license", "MIT OR Apache-2.0"),
    ("lock_wait_timeout", "31536000"),
    ("long_query_time", "10"),
    ("lower_case_file_system", "0"),
    ("lower_case_table_names", "0"),
    ("max_allowed_packet", "67108864"),
    ("max_connections", "151"),
    ("max_execution_time", "0"),
    ("net_buffer_length", "16384"),
    ("net_read_timeout", "30"),
    ("net_write_timeout", "60"),
    ("performance_schema", "0"),
    ("port", "3306"),
    ("protocol_version", "10"),
    ("pseudo_thread_id", "0"),
    ("read_only", "0"),
    ("resultset_metadata", "FULL"),
    ("server_id", "1"),
    ("server_uuid", "00000000-0000-0000-0000-000000000001"),
    ("session_track_gtids", "OFF"),
    ("session_track_schema", "1"),
    ("session_track_state_change", "0"),
    ("session_track_system_variables", TRACKED_BY_DEFAULT),
    ("session_track_transaction_info", "OFF"),
    ("socket", ""),
    ("sql_auto_is_null", "0"),
    ("sql_log_bin", "1"),
    ("sql_mode", DEFAULT_SQL_MODE),
    ("sql_notes", "1"),
    ("sql_quote_show_create", "1"),
    ("sql_safe_updates", "0"),
    ("sql_select_limit", "18446744073709551615"),
    ("sql_warnings", "0"),
    ("super_read_only", "0"),
    ("system_time_zone", "UTC"),
    ("time_zone", "SYSTEM"),
    ("transaction_isolation", "REPEATABLE-READ"),
    ("transaction_read_only", "0"),
    ("unique_checks", "1"),
    ("version_comment", "Ringgate embedded shard"),
    ("version_compile_os", "Linux"),
    ("wait_timeout", "28800"),
];

/// `session_track_system_variables` of a fresh MySQL server.
const TRACKED_BY_DEFAULT: &str =
    "time_zone,autocommit,character_set_client,character_set_results,character_set_connection";

const DEFAULT_SQL_MODE: &str = "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,\
     ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION";

/// Variables that are numbers in an expression and `ON` or `OFF` in a listing.
const SWITCHES: [&str; 16] = [
    "autocommit",
    "big_tables",
    "foreign_key_checks",
    "lower_case_file_system",
    "performance_schema",
    "read_only",
    "session_track_schema",
    "session_track_state_change",
    "sql_auto_is_null",
    "sql_log_bin",
    "sql_notes",
    "sql_quote_show_create",
    "sql_safe_updates",
    "sql_warnings",
    "super_read_only",
    "transaction_read_only",
];

/// The older names of some variables.
const ALIASES: [(&str, &str); 4] = [
    ("tx_isolation", "transaction_isolation"),
    ("tx_read_only", "transaction_read_only"),
    ("storage_engine", "default_storage_engine"),
    ("foreign_key_check", "foreign_key_checks"),
];

/// One session's variables: the defaults under what it set.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    set: BTreeMap<String, String>,
}

impl Variables {
    /// The value of `name` as text, or `None` for a name that is neither known nor set.
    pub fn text(&self, name: &str) -> Option<&str> {
        let name = canonical(name);
        self.set
            .get(name)
            .map(String::as_str)
            .or_else(|| default(name))
    }

    /// The value of `name` as an expression sees it: a number where it looks like one.
    pub fn value(&self, name: &str) -> Option<Value> {
        let text = self.text(name)?;
        Some(match text.parse::<i64>() {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Text(text.to_owned()),
        })
    }

    /// The value of `name` as listings and change notes print it.
    pub fn listed(&self, name: &str) -> String {
        let text = self.text(name).unwrap_or_default();
        match (SWITCHES.contains(&canonical(name)), text) {
            (true, "1") => "ON".to_owned(),
            (true, "0") => "OFF".to_owned(),
            _ => text.to_owned(),
        }
    }

    /// Whether the switch `name` is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.listed(name) == "ON"
    }

    /// Sets `name`; `None` returns it to its default. Returns the name it is known under.
    ///
    /// A switch takes words and numbers and keeps `1` or `0`.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> String {
        let name = canonical(name);
        match value {
            None => {
                self.set.remove(name);
            }
            Some(value) => {
                let value = match (
                    SWITCHES.contains(&name),
                    value.to_ascii_uppercase().as_str(),
                ) {
                    (true, "ON" | "TRUE" | "1") => "1",
                    (true, "OFF" | "FALSE" | "0") => "0",
                    _ => value,
                };
                self.set.insert(name.to_owned(), value.to_owned());
            }
        }
        name.to_owned()
    }

    /// Whether changes of `name` are to be reported (`session_track_system_variables`).
    pub fn is_tracked(&self, name: &str) -> bool {
        let tracked = self
            .text("session_track_system_variables")
            .unwrap_or_default();
        tracked
            .split(',')
            .any(|one| one.trim() == "*" || one.trim().eq_ignore_ascii_case(name))
    }

    /// Every name, sorted, with its value as listings print it.
    pub fn all(&self) -> Vec<(String, String)> {
        let mut names: Vec<&str> = DEFAULTS.iter().map(|(name, _)| *name).collect();
        names.extend(self.set.keys().map(String::as_str));
        names.sort_unstable();
        names.dedup();
        names
            .into_iter()
            .map(|name| (name.to_owned(), self.listed(name)))
            .collect()
    }
}

fn canonical(name: &str) -> &str {
    ALIASES
        .iter()
        .find(|(alias, _)| *alias == name)
        .map_or(name, |(_, name)| name)
}

fn default(name: &str) -> Option<&'static str> {
    DEFAULTS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_remember_and_return_to_their_defaults() {
        let mut variables = Variables::default();
        assert_eq!(variables.value("autocommit"), Some(Value::Integer(1)));
        assert_eq!(variables.set("autocommit", Some("OFF")), "autocommit");
        assert_eq!(
            (variables.value("autocommit"), variables.is_on("autocommit")),
            (Some(Value::Integer(0)), false)
        );
        assert_eq!(variables.listed("autocommit"), "OFF");
        assert_eq!(
            variables.set("tx_isolation", Some("SERIALIZABLE")),
            "transaction_isolation"
        );
        assert_eq!(variables.text("tx_isolation"), Some("SERIALIZABLE"));
        variables.set("autocommit", None);
        assert!(variables.is_on("autocommit"));
        assert_eq!(variables.text("no_such_variable"), None);
        variables.set("no_such_variable", Some("x"));
        assert_eq!(variables.text("no_such_variable"), Some("x"));
    }

    #[test]
    fn tracking_follows_its_own_variable() {
        let mut variables = Variables::default();
        assert!(variables.is_tracked("time_zone") && !variables.is_tracked("sql_mode"));
        variables.set("session_track_system_variables", Some("*"));
        assert!(variables.is_tracked("sql_mode"));
    }
}
