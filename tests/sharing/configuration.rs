//! The configuration of a round, setting by setting, and what its reloads change.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use ringgate::base::prng::Prng;

use crate::plan::Accounts;
use crate::support::Ports;

/// The accounts that placements may log in with.
pub const SHARED_ACCOUNTS: [&str; 2] = ["shared1", "shared2"];

/// A tenant's own account.
pub fn own_account(tenant: u32) -> String {
    format!("own{tenant}")
}

/// What all configurations of a round have in common.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub tenants: u32,
    pub budget: u32,
    pub cores: u32,
    pub accounts: Accounts,
}

impl Place {
    /// One that has a connection for each tenant on each core.
    fn any_budget(&self, prng: &mut Prng) -> u32 {
        let least = self.tenants * self.cores;
        least + small(prng, self.budget - least + 1)
    }
}

/// The addresses of a server: to the node these are two, each with a budget of its own.
pub struct Addresses {
    pub tcp: u16,
    pub unix: PathBuf,
}

/// Values by table and key, as TOML has them. `@tcp@` and `@unix@` stand for the addresses of the placement's server.
#[derive(Clone, Debug)]
pub struct Configuration {
    tables: BTreeMap<String, BTreeMap<String, String>>,
}

/// Of the settings that a reload changes, those with values that can be drawn one by one; `""` is none.
const SINGLE: &[(&str, &[&str])] = &[
    ("node.drain_grace", &["'1s'", "'30s'"]),
    ("node.zone", &["'a'", "'b'", ""]),
    (
        "node.server_version",
        &["'10.11.6-MariaDB'", "'10.11.14-MariaDB'"],
    ),
    ("listeners.*.connections_max", &["4000", "8000"]),
    ("listeners.*.keepalive", &["'5s'", "'30s'", "'0s'"]),
    ("listeners.*.keepalive_interval", &["'5s'", "'10s'"]),
    ("listeners.*.keepalive_count", &["3", "5"]),
    ("listeners.*.user_timeout", &["'5s'", "'10s'", "'0s'"]),
    ("listeners.*.receive_buffer", &["'64KiB'", "'256KiB'"]),
    ("listeners.*.send_buffer", &["'64KiB'", "'256KiB'"]),
    ("listeners.*.congestion", &["'cubic'", "'reno'"]),
    ("deadlines.login", &["'3s'", "'5s'"]),
    ("deadlines.connect", &["'500ms'", "'1s'"]),
    ("deadlines.connect_total", &["'1s'", "'3s'"]),
    ("deadlines.pool_wait", &["'2s'", "'5s'"]),
    // Twice this is no longer than the shortest pool_wait.
    ("deadlines.pool_wait_target", &["'0s'", "'500ms'"]),
    ("deadlines.upstream_login", &["'2s'", "'3s'"]),
    ("deadlines.statement", &["'0s'", "'3s'"]),
    ("deadlines.write_stall", &["'2s'", "'60s'"]),
    ("deadlines.idle_client", &["'10s'", "'8h'", "'0s'"]),
    ("deadlines.transaction_idle", &["'2s'", "'10m'", "'0s'"]),
    ("deadlines.removed_user", &["'1s'", "'30s'", "'0s'"]),
    ("deadlines.linger", &["'1s'", "'2s'"]),
    ("logging.level", &["'warn'", "'info'", "'debug'"]),
    ("pools.waiters_max", &["1000", "4096"]),
    // No longer than the shortest age_max.
    ("pools.idle_max", &["'1s'", "'2s'"]),
    ("pools.age_max", &["'2s'", "'1h'"]),
    ("pools.statements_max", &["4", "256"]),
    ("pools.statements_per_client_max", &["64", "4096"]),
    ("placements.*.keepalive", &["'5s'", "'30s'", "'0s'"]),
    ("placements.*.keepalive_interval", &["'5s'", "'10s'"]),
    ("placements.*.keepalive_count", &["3", "5"]),
    ("placements.*.user_timeout", &["'5s'", "'10s'", "'0s'"]),
    ("placements.*.receive_buffer", &["'64KiB'", "'256KiB'"]),
    ("placements.*.send_buffer", &["'64KiB'", "'256KiB'"]),
    ("placements.*.congestion", &["'cubic'", "'reno'"]),
    ("hash.seed", &["1", "2", "3"]),
    ("hash.placements", &["['s0', 's1']", "['s0']", "['s1']"]),
    ("tenants.*.placement", &["'s0'", "'s1'"]),
    ("tenants.*.connections_max", &["1000", ""]),
    ("tenants.*.statement", &["'2s'", ""]),
    (
        "users.*.plugin",
        &["'mysql_native_password'", "'caching_sha2_password'"],
    ),
];

/// Draws a value.
type Draw = fn(&mut Prng, &Place) -> Changed;

/// The others, each with what draws it.
const DRAWN: &[(&str, Draw)] = &[
    ("pools.budget", |prng, place| {
        let budget = place.any_budget(prng);
        Changed::all("pools.budget", budget.to_string())
    }),
    ("placements.*.budget", |prng, place| {
        let budget = place.any_budget(prng);
        let none = prng.below(2) == 0;
        let value = if none {
            String::new()
        } else {
            budget.to_string()
        };
        Changed::all("placements.*.budget", value)
    }),
    ("tenants.*.connections_upstream_max", |prng, place| {
        let most = place.cores + small(prng, place.budget);
        let none = prng.below(2) == 0;
        let value = if none {
            String::new()
        } else {
            most.to_string()
        };
        Changed::all("tenants.*.connections_upstream_max", value)
    }),
    ("tenants.*.schema", |prng, _| match prng.below(2) {
        0 => Changed::all("tenants.*.schema", String::new()),
        _ => Changed::all("tenants.*.schema", "'t*'".to_owned()),
    }),
    ("placements.*.endpoints", draw_endpoints),
    ("placements.*.upstream", |prng, _| {
        let user = SHARED_ACCOUNTS[index(prng, 2)];
        Changed::all("placements.*.upstream", account(user))
    }),
    ("tenants.*.upstream", |prng, place| {
        let has_own = match place.accounts {
            Accounts::Shared => false,
            Accounts::Own => true,
            Accounts::Changing => prng.below(2) == 0,
        };
        let value = if has_own {
            account("own*")
        } else {
            String::new()
        };
        Changed::all("tenants.*.upstream", value)
    }),
];

/// Settings that a reload changes and no round does: who may log in, and how a secret is had. Tests of single
/// reloads have them.
const LEFT_OUT: &[&str] = &[
    "placements.*.upstream.passwordless",
    "placements.*.upstream.password.file",
    "tenants.*.upstream.passwordless",
    "tenants.*.upstream.password.file",
    "users.*.tenant",
    "users.*.passwordless",
    "users.*.password.env",
    "users.*.password.file",
    "users.*.verifiers.native",
    "users.*.verifiers.sha2_stage2",
    "users.*.verifiers.caching_sha2",
];

/// A setting in all tables of its kind, and its new value; `*` in it stands for the tenant's number.
#[derive(Clone, Debug)]
pub struct Changed {
    setting: &'static str,
    value: String,
}

impl Changed {
    fn all(setting: &'static str, value: String) -> Self {
        Self { setting, value }
    }

    /// Any of them.
    pub fn draw(prng: &mut Prng, place: &Place) -> Self {
        let at = index(
            prng,
            u64::try_from(SINGLE.len() + 2 * DRAWN.len()).expect("few"),
        );
        match SINGLE.get(at) {
            Some((setting, values)) => {
                let value = values[index(prng, u64::try_from(values.len()).expect("few"))];
                Self::all(setting, value.to_owned())
            }
            // These twice as often as one of the others.
            None => DRAWN[(at - SINGLE.len()) / 2].1(prng, place),
        }
    }
}

/// Each placement's server, by one of its addresses or the other, with the other as a replica.
fn draw_endpoints(prng: &mut Prng, _: &Place) -> Changed {
    let zone = ["", ", zone = 'a'", ", zone = 'b'"][index(prng, 3)];
    let weight = 1 + prng.below(3);
    let (one, other) = match prng.below(2) {
        0 => ("tcp", "unix"),
        _ => ("unix", "tcp"),
    };
    // Options of TCP are for placements that have an endpoint by TCP.
    let primary = format!("{{ address = '@{one}@', role = 'primary', weight = {weight}{zone} }}");
    let all = format!("{primary}, {{ address = '@{other}@', role = 'replica' }}");
    Changed::all("placements.*.endpoints", format!("[{all}]"))
}

fn account(user: &str) -> String {
    format!("{{ user = '{user}', password = {{ env = 'RG_UPSTREAM_PASSWORD' }} }}")
}

impl Configuration {
    /// Each placement has a server, and all tenants are in the first placement.
    pub fn first(place: &Place) -> Self {
        let mut first = Self {
            tables: BTreeMap::new(),
        };
        for name in ["s0", "s1"] {
            let table = format!("placements.{name}");
            let endpoints = "[{ address = '@tcp@', role = 'primary' }]";
            first.put(&table, "endpoints", endpoints);
            first.put(&table, "upstream", &account(SHARED_ACCOUNTS[0]));
        }
        for tenant in 0..place.tenants {
            let table = format!("tenants.t{tenant}");
            first.put(&table, "placement", "'s0'");
            if place.accounts == Accounts::Own {
                first.put(&table, "upstream", &account(&own_account(tenant)));
            }
            let table = format!("users.t{tenant}");
            first.put(&table, "tenant", &format!("'t{tenant}'"));
            first.put(&table, "plugin", "'mysql_native_password'");
            first.put(&table, "password", "{ env = 'RG_A_PASSWORD' }");
        }
        // One goes where the hash says.
        first.put("tenants.hashed", "connections_max", "100");
        first.put("users.hashed", "tenant", "'hashed'");
        first.put("users.hashed", "plugin", "'mysql_native_password'");
        first.put("users.hashed", "password", "{ env = 'RG_A_PASSWORD' }");
        first.put("hash", "placements", "['s0', 's1']");
        first.put("hash", "seed", "1");
        first.put("cores", "count", &place.cores.to_string());
        first.put("pools", "budget", &place.budget.to_string());
        first.put("deadlines", "pool_wait", "'1s'");
        first.put("pools", "idle_max", "'2s'");
        // These cannot be taken away again.
        first.put("node", "server_version", "'10.11.6-MariaDB'");
        first.put("listeners.main", "receive_buffer", "'256KiB'");
        first.put("listeners.main", "send_buffer", "'256KiB'");
        first.put("listeners.main", "congestion", "'cubic'");
        first
    }

    fn put(&mut self, table: &str, key: &str, value: &str) {
        let table = self.tables.entry(table.to_owned()).or_default();
        match value.is_empty() {
            true => table.remove(key),
            false => table.insert(key.to_owned(), value.to_owned()),
        };
    }

    /// Takes over a change: in all tables of the kind, but for the tenant that goes by the hash.
    pub fn change(&mut self, changed: &Changed) {
        let (table, key) = changed.setting.rsplit_once('.').expect("a table");
        let Some(kind) = table.strip_suffix(".*") else {
            return self.put(table, key, &changed.value);
        };
        let prefix = format!("{kind}.");
        let mut tables: Vec<String> = self.tables.keys().cloned().collect();
        tables.retain(|table| table.starts_with(&prefix) && !table.ends_with(".hashed"));
        if kind == "listeners" {
            tables = vec!["listeners.main".to_owned()];
        }
        for table in tables {
            let number = table.rsplit_once('t').map_or("", |(_, number)| number);
            let value = match kind {
                "tenants" => changed.value.replace('*', number),
                _ => changed.value.clone(),
            };
            self.put(&table, key, &value);
        }
    }

    /// The file's text.
    pub fn text(&self, ports: Ports, servers: &[Addresses; 2]) -> String {
        let mut text = "version = 1\n".to_owned();
        let mut all = self.tables.clone();
        let listener = all.entry("listeners.main".to_owned()).or_default();
        listener.insert("protocol".to_owned(), "'mysql'".to_owned());
        listener.insert("address".to_owned(), format!("'127.0.0.1:{}'", ports.mysql));
        let admin = all.entry("admin".to_owned()).or_default();
        admin.insert("address".to_owned(), format!("'127.0.0.1:{}'", ports.admin));
        for (table, values) in &all {
            let server = match table.as_str() {
                "placements.s0" => &servers[0],
                _ => &servers[1],
            };
            writeln!(text, "[{table}]").expect("memory");
            for (key, value) in values {
                let value = value.replace("@tcp@", &format!("127.0.0.1:{}", server.tcp));
                let value = value.replace("@unix@", &format!("unix:{}", server.unix.display()));
                writeln!(text, "{key} = {value}").expect("memory");
            }
        }
        text
    }
}

fn small(prng: &mut Prng, bound: u32) -> u32 {
    u32::try_from(prng.below(u64::from(bound))).expect("a small bound")
}

fn index(prng: &mut Prng, bound: u64) -> usize {
    usize::try_from(prng.below(bound)).expect("a small bound")
}

/// What docs/configuration.md says a reload changes is changed by rounds, or named as left out.
#[test]
fn every_setting_that_a_reload_changes_is_drawn() {
    let docs = include_str!("../../docs/configuration.md");
    let rows = docs.lines().filter(|line| {
        line.starts_with("| whoever is there") || line.starts_with("| connections and clients")
    });
    let mut count = 0;
    let singles = SINGLE.iter().map(|(setting, _)| *setting);
    let drawn: Vec<&str> = singles
        .chain(DRAWN.iter().map(|(setting, _)| *setting))
        .collect();
    for setting in rows.flat_map(|row| row.split('`').skip(1).step_by(2)) {
        count += 1;
        let is_drawn = drawn
            .iter()
            .any(|drawn| setting == *drawn || setting.starts_with(&format!("{drawn}.")));
        let is_left_out = LEFT_OUT.contains(&setting);
        assert!(is_drawn || is_left_out, "{setting} is not drawn");
    }
    assert!(count > 60, "{count} settings in the documentation");
}

/// A reload that is refused would change nothing: any two values may stand beside each other.
#[test]
fn every_two_values_may_be_drawn_for_one_configuration() {
    let place = Place {
        tenants: 2,
        budget: 9,
        cores: 2,
        accounts: Accounts::Changing,
    };
    let singles = SINGLE.iter().flat_map(|(setting, values)| {
        let changed = |value: &&str| Changed::all(setting, (*value).to_owned());
        values.iter().map(changed).collect::<Vec<_>>()
    });
    let mut prng = Prng::new(7);
    let drawn = (0..8).flat_map(|_| DRAWN.iter()).collect::<Vec<_>>();
    let drawn = drawn.into_iter().map(|(_, draw)| draw(&mut prng, &place));
    let all: Vec<Changed> = singles.chain(drawn).collect();
    let ports = Ports {
        mysql: 13_306,
        admin: 19_306,
    };
    let servers = [1_u16, 2].map(|port| Addresses {
        tcp: port,
        unix: PathBuf::from(format!("/tmp/{port}.sock")),
    });
    for (at, one) in all.iter().enumerate() {
        for other in &all[at..] {
            let mut configuration = Configuration::first(&place);
            configuration.change(one);
            configuration.change(other);
            let text = configuration.text(ports, &servers);
            let parsed = ringgate::config::parse("x.toml", &text, &|_| Some("secret".to_owned()));
            assert!(parsed.is_ok(), "{one:?}, {other:?}: {:?}", parsed.err());
        }
    }
}
