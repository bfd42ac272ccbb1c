//! Session variables of the mock server.

use std::collections::BTreeMap;

/// What servers report by default.
pub const REPORTED_BY_DEFAULT: &[&str] = &[
    "autocommit",
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "time_zone",
];

/// Name and default. The mock knows no others.
const KNOWN: &[(&str, &str)] = &[
    ("autocommit", "ON"),
    ("character_set_client", "utf8mb4"),
    ("character_set_connection", "utf8mb4"),
    ("character_set_results", "utf8mb4"),
    ("collation_connection", "utf8mb4_general_ci"),
    ("sql_mode", "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION"),
    ("sql_safe_updates", "OFF"),
    ("sql_select_limit", "18446744073709551615"),
    ("time_zone", "SYSTEM"),
    ("timestamp", "0"),
    ("tx_isolation", "REPEATABLE-READ"),
    ("unique_checks", "ON"),
    ("wait_timeout", "28800"),
];

/// The default collation of a character set.
pub fn default_collation(charset: &str) -> &'static str {
    match charset {
        "latin1" => "latin1_swedish_ci",
        "binary" => "binary",
        _ => "utf8mb4_general_ci",
    }
}

/// The values that differ from the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<&'static str, String>);

impl Variables {
    pub fn get(&self, name: &str) -> Option<&str> {
        let (name, default) = KNOWN.iter().find(|(known, _)| *known == name)?;
        Some(self.0.get(name).map_or(*default, String::as_str))
    }

    pub fn is_on(&self, name: &str) -> bool {
        self.get(name) == Some("ON")
    }

    /// The values that differ from the defaults.
    pub fn changed(&self) -> impl Iterator<Item = (&&'static str, &String)> {
        self.0.iter()
    }

    /// What a PREPARE takes, in one line.
    pub fn settings(&self) -> String {
        let names = [
            "sql_mode",
            "character_set_client",
            "character_set_connection",
            "collation_connection",
        ];
        names
            .map(|name| self.get(name).unwrap_or_default())
            .join(" ")
    }

    /// Every variable with its value.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        KNOWN
            .iter()
            .filter_map(|(name, _)| Some((*name, self.get(name)?)))
    }

    /// Sets a variable from the text of a SET; returns its new value, or `None` if there is no
    /// such variable or value. `None` as the value means DEFAULT.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> Option<String> {
        let (name, default) = *KNOWN.iter().find(|(known, _)| *known == name)?;
        let value = value.unwrap_or(default);
        let value = match (default, value) {
            ("ON" | "OFF", "1") => "ON",
            ("ON" | "OFF", "0") => "OFF",
            ("ON" | "OFF", other) if !matches!(other, "ON" | "OFF") => return None,
            _ => value,
        };
        self.put(name, value);
        match name {
            "character_set_connection" => {
                self.put("collation_connection", default_collation(value));
            }
            "collation_connection" => {
                let charset = value.split('_').next().unwrap_or_default().to_owned();
                self.put("character_set_connection", &charset);
            }
            _ => {}
        }
        Some(value.to_owned())
    }

    fn put(&mut self, name: &str, value: &str) {
        let Some((name, default)) = KNOWN.iter().find(|(known, _)| *known == name) else {
            return;
        };
        if value == *default {
            self.0.remove(name);
        } else {
            self.0.insert(name, value.to_owned());
        }
    }
}
