//! Every setting has an effect, and a test shows it: from the start, and by a reload where that changes it.
//!
//! The list of settings is the program's own: what its reader knows in each section, as its refusals tell.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use ringgate::config::{self, Code};

/// Whom a reload's value is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// Whoever is there, waits that go on included.
    All,
    /// Connections, and clients, that come from then on.
    Coming,
    /// Nobody: the reload is refused.
    Restart,
    /// It takes one value only.
    OneValue,
}

use Reach::{All, Coming, OneValue, Restart};

/// A setting, the test that shows its effect from the start, whom a reload's value is for, and the test that
/// shows that; each as `file::test`.
type Row = (&'static str, &'static str, Reach, &'static str);

const NEEDS_RESTART: &str =
    "gateway_process::what_a_restart_is_needed_for_is_refused_by_name_and_changes_nothing";
const REFUSED: &str = "config_settings::what_takes_one_value_takes_no_other";
const CPUS: &str = "gateway_process::there_is_a_core_on_each_cpu_that_is_asked_for";
const VERSION: &str =
    "gateway_process::the_greeting_names_the_version_that_is_set_else_the_upstreams";
const CHOSEN: &str = "gateway_placing::endpoints_are_chosen_by_zone_weight_and_role";
const PUT: &str =
    "gateway_placing::tenants_go_where_they_are_put_and_else_where_the_hash_puts_them";
const ACCOUNTS: &str =
    "gateway_placing::sessions_begin_in_their_tenants_schema_under_its_account_or_the_placements";
const OWN_BUDGET: &str = "gateway_placing::a_placement_has_its_own_budget";
const DOOR_OPTIONS: &str =
    "gateway_sockets::options_of_a_listener_are_those_of_its_connections_and_follow_a_reload";
const PLACE_OPTIONS: &str =
    "gateway_sockets::options_of_a_placement_are_those_of_its_connections_and_follow_a_reload";
const PROVEN: &str = "gateway_users::a_user_proves_what_the_configuration_has_of_him_now";
const ASKED: &str = "gateway_users::a_user_is_asked_in_his_plugin_and_belongs_to_his_tenant";
const STORED: &str = "gateway_users::a_servers_stored_form_is_proven_in_full_and_then_fast";
const BUFFERS: &str = "gateway_process::buffers_are_as_many_and_as_large_as_is_set";
const STATEMENT: &str =
    "gateway_deadlines::a_statement_takes_as_long_as_its_tenant_may_before_all_others";
const IDLE_TRANSACTION: &str = "gateway_idle_transactions::a_transaction_may_be_idle_for_so_long_also_one_that_was_there_before";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("version", REFUSED, OneValue, REFUSED),
    ("cores.count", CPUS, Restart, NEEDS_RESTART),
    ("cores.cpus", CPUS, Restart, NEEDS_RESTART),
    ("node.drain_grace", "gateway_life::a_drain_ends_with_its_grace", All, "gateway_process::a_drain_has_the_grace_of_the_last_reload"),
    ("node.server_version", VERSION, Coming, VERSION),
    ("node.zone", CHOSEN, All, CHOSEN),
    ("listeners.*.protocol", REFUSED, OneValue, REFUSED),
    ("listeners.*.address", "gateway_life::a_port_in_use_refuses_the_start", Restart, NEEDS_RESTART),
    ("listeners.*.mode", "gateway_process::the_file_of_a_unix_socket_has_its_mode", Restart, NEEDS_RESTART),
    ("listeners.*.backlog", "gateway_sockets::the_kernel_queues_as_many_connections_as_the_backlog_says", Restart, NEEDS_RESTART),
    ("listeners.*.connections_max", "gateway_limits::a_listeners_bound_holds_from_the_start_and_after_a_reload", Coming, "gateway_limits::a_listeners_bound_holds_from_the_start_and_after_a_reload"),
    ("listeners.*.keepalive", DOOR_OPTIONS, Coming, DOOR_OPTIONS),
    ("listeners.*.keepalive_interval", DOOR_OPTIONS, Coming, DOOR_OPTIONS),
    ("listeners.*.keepalive_count", DOOR_OPTIONS, Coming, DOOR_OPTIONS),
    ("listeners.*.user_timeout", DOOR_OPTIONS, Coming, DOOR_OPTIONS),
    ("listeners.*.receive_buffer", DOOR_OPTIONS, Coming, DOOR_OPTIONS),
    ("listeners.*.send_buffer", DOOR_OPTIONS, Coming, DOOR_OPTIONS),
    ("listeners.*.congestion", DOOR_OPTIONS, Coming, DOOR_OPTIONS),
    ("admin.address", "gateway_metrics::every_declared_series_is_fed", Restart, NEEDS_RESTART),
    ("deadlines.login", "gateway_deadlines::a_login_takes_so_long_and_no_longer", Coming, "gateway_deadlines::a_login_takes_so_long_and_no_longer"),
    ("deadlines.connect", "gateway_deadlines::a_connect_takes_so_long_and_no_longer", Coming, "gateway_deadlines::a_connect_takes_so_long_and_no_longer"),
    ("deadlines.connect_total", "upstream/tests::all_addresses_together_take_no_longer_than_the_whole_connect_may", Coming, "upstream/tests::all_addresses_together_take_no_longer_than_the_whole_connect_may"),
    ("deadlines.pool_wait", "gateway_faults::an_exhausted_budget_is_waited_for_and_then_told", All, "gateway_deadlines::a_wait_for_a_connection_takes_so_long_and_no_longer"),
    ("deadlines.pool_wait_target", "gateway_deadlines::a_wait_in_a_queue_that_stands_takes_twice_its_target_and_no_longer", All, "gateway_deadlines::a_wait_in_a_queue_that_stands_takes_twice_its_target_and_no_longer"),
    ("deadlines.upstream_login", "gateway_deadlines::a_login_at_a_server_takes_so_long_and_no_longer", Coming, "gateway_deadlines::a_login_at_a_server_takes_so_long_and_no_longer"),
    ("deadlines.statement", STATEMENT, All, STATEMENT),
    ("deadlines.write_stall", "gateway_slow_peers::a_client_that_does_not_read_is_ended_whether_an_exchange_runs_or_not", All, "gateway_deadlines::a_client_that_takes_nothing_is_kept_for_so_long"),
    ("deadlines.idle_client", "gateway_deadlines::an_idle_client_is_kept_for_so_long_also_if_it_was_there_before", All, "gateway_deadlines::an_idle_client_is_kept_for_so_long_also_if_it_was_there_before"),
    ("deadlines.transaction_idle", IDLE_TRANSACTION, All, IDLE_TRANSACTION),
    ("deadlines.removed_user", "gateway_removed_users::a_removed_users_clients_are_told_between_transactions_and_ended_after_their_time", All, "gateway_removed_users::without_a_limit_a_removed_users_clients_stay_until_a_reload_gives_one"),
    ("deadlines.linger", "gateway_deadlines::what_is_left_is_sent_for_so_long_after_the_end", All, "gateway_deadlines::what_is_left_is_sent_for_so_long_after_the_end"),
    ("logging.level", "gateway_process::lines_are_written_up_to_the_level_of_the_last_reload", All, "gateway_process::lines_are_written_up_to_the_level_of_the_last_reload"),
    ("logging.target", "gateway_process::lines_go_to_the_target", Restart, NEEDS_RESTART),
    ("pools.budget", "gateway_pools::one_core_with_all_the_clients_reaches_the_whole_budget_and_no_more", All, OWN_BUDGET),
    ("pools.waiters_max", "gateway_settings::so_many_clients_of_all_tenants_wait_for_an_endpoint_and_no_more", All, "gateway_settings::so_many_clients_of_all_tenants_wait_for_an_endpoint_and_no_more"),
    ("pools.idle_max", "gateway_pools::idle_connections_are_closed_after_their_time", All, "gateway_settings::a_reload_bounds_how_long_connections_are_idle"),
    ("pools.age_max", "gateway_pools::busy_connections_are_replaced_at_their_age", All, "gateway_settings::a_reload_bounds_how_old_connections_become"),
    ("pools.statements_max", "gateway_settings::a_connection_keeps_so_many_statements_prepared", Coming, "gateway_settings::a_connection_keeps_so_many_statements_prepared"),
    ("pools.statements_per_client_max", "gateway_settings::a_client_has_so_many_statements_prepared_and_no_more", All, "gateway_settings::a_client_has_so_many_statements_prepared_and_no_more"),
    ("buffers.count", BUFFERS, Restart, NEEDS_RESTART),
    ("buffers.bytes", BUFFERS, Restart, NEEDS_RESTART),
    ("buffers.unread_max", "gateway_process::so_much_is_read_ahead_of_a_client", Restart, NEEDS_RESTART),
    ("placements.*.budget", OWN_BUDGET, All, OWN_BUDGET),
    ("placements.*.upstream.user", ACCOUNTS, All, ACCOUNTS),
    ("placements.*.upstream.passwordless", ACCOUNTS, All, ACCOUNTS),
    ("placements.*.upstream.password.env", ACCOUNTS, All, ACCOUNTS),
    ("placements.*.upstream.password.file", ACCOUNTS, All, ACCOUNTS),
    ("placements.*.endpoints.address", CHOSEN, All, "gateway_life::an_endpoint_that_a_reload_took_away_is_left_and_comes_back_with_its_budget"),
    ("placements.*.endpoints.role", CHOSEN, All, CHOSEN),
    ("placements.*.endpoints.zone", CHOSEN, All, CHOSEN),
    ("placements.*.endpoints.weight", CHOSEN, All, CHOSEN),
    ("placements.*.keepalive", PLACE_OPTIONS, Coming, PLACE_OPTIONS),
    ("placements.*.keepalive_interval", PLACE_OPTIONS, Coming, PLACE_OPTIONS),
    ("placements.*.keepalive_count", PLACE_OPTIONS, Coming, PLACE_OPTIONS),
    ("placements.*.user_timeout", PLACE_OPTIONS, Coming, PLACE_OPTIONS),
    ("placements.*.receive_buffer", PLACE_OPTIONS, Coming, PLACE_OPTIONS),
    ("placements.*.send_buffer", PLACE_OPTIONS, Coming, PLACE_OPTIONS),
    ("placements.*.congestion", PLACE_OPTIONS, Coming, PLACE_OPTIONS),
    ("hash.version", REFUSED, OneValue, REFUSED),
    ("hash.seed", PUT, All, PUT),
    ("hash.placements", PUT, All, PUT),
    ("tenants.*.placement", PUT, All, PUT),
    ("tenants.*.schema", ACCOUNTS, Coming, ACCOUNTS),
    ("tenants.*.upstream.user", ACCOUNTS, All, ACCOUNTS),
    ("tenants.*.upstream.passwordless", ACCOUNTS, All, ACCOUNTS),
    ("tenants.*.upstream.password.env", ACCOUNTS, All, ACCOUNTS),
    ("tenants.*.upstream.password.file", ACCOUNTS, All, ACCOUNTS),
    ("tenants.*.connections_max", "gateway_limits::a_tenant_has_no_more_clients_than_its_bound_on_all_cores_together", Coming, "gateway_limits::a_tenants_bound_is_changed_by_a_reload_and_counts_who_is_there"),
    ("tenants.*.connections_upstream_max", "gateway_bounds::whatever_a_tenant_does_with_its_connections_the_other_is_served", All, "gateway_bounds::sixty_four_idle_transactions_lock_nobody_else_out_and_reloads_move_the_bound"),
    ("tenants.*.statement", STATEMENT, All, STATEMENT),
    ("users.*.tenant", ASKED, Coming, ASKED),
    ("users.*.plugin", ASKED, Coming, ASKED),
    ("users.*.passwordless", PROVEN, Coming, PROVEN),
    ("users.*.password.env", PROVEN, Coming, PROVEN),
    ("users.*.password.file", PROVEN, Coming, PROVEN),
    ("users.*.verifiers.native", PROVEN, Coming, PROVEN),
    ("users.*.verifiers.sha2_stage2", PROVEN, Coming, PROVEN),
    ("users.*.verifiers.caching_sha2", STORED, Coming, STORED),
];

/// A file with a place for one line in each section.
const FILE: &str = r#"version = 1
#root
[cores]
#cores
[node]
#node
[listeners.main]
protocol = "mysql"
address = "127.0.0.1:3306"
#listeners.*
[admin]
#admin
[deadlines]
#deadlines
[logging]
#logging
[pools]
#pools
[buffers]
#buffers
[placements.a]
#placements.*
[[placements.a.endpoints]]
address = "db1:3306"
#placements.*.endpoints
[placements.a.upstream]
user = "gw"
#placements.*.upstream
[placements.a.upstream.password]
env = "PW"
#placements.*.upstream.password
[hash]
version = 1
placements = ["a"]
#hash
[tenants.acme]
#tenants.*
[tenants.acme.upstream]
user = "gw"
#tenants.*.upstream
[tenants.acme.upstream.password]
env = "PW"
#tenants.*.upstream.password
[users.app]
tenant = "acme"
#users.*
[users.app.password]
env = "PW"
#users.*.password
[users.hashed]
tenant = "acme"
[users.hashed.verifiers]
native = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"
#users.*.verifiers
"#;

fn parse(text: &str) -> Result<config::Snapshot, config::ConfigErrors> {
    config::parse("ringgate.toml", text, &|_| Some("x".to_owned()))
}

/// The sections of [`FILE`], `root` for none.
fn sections() -> Vec<&'static str> {
    FILE.lines()
        .filter_map(|line| line.strip_prefix('#'))
        .collect()
}

/// What the reader knows in a section: it says so of a key that is like none of them.
fn known_in(section: &str) -> Vec<String> {
    let text = FILE.replace(&format!("#{section}\n"), "\"~~~~\" = 1\n");
    let errors = parse(&text).expect_err(section);
    let unknown = errors
        .problems()
        .iter()
        .find(|p| p.code == Code::UnknownKey);
    let help = &unknown
        .unwrap_or_else(|| panic!("{section}: {errors}"))
        .help;
    let names = help.strip_prefix("known here: ");
    let names = names.unwrap_or_else(|| panic!("{section}: {help}"));
    names.split(", ").map(str::to_owned).collect()
}

/// Every setting that the program reads.
fn settings() -> BTreeSet<String> {
    let sections = sections();
    // A table in which keys are looked for is no setting itself.
    let is_table = |path: &str| {
        let inside = format!("{path}.");
        sections
            .iter()
            .any(|section| *section == path || section.starts_with(&inside))
    };
    let mut settings = BTreeSet::new();
    for section in &sections {
        for key in known_in(section) {
            let path = match *section {
                "root" => key,
                section => format!("{section}.{key}"),
            };
            if !is_table(&path) {
                settings.insert(path);
            }
        }
    }
    settings
}

#[test]
fn every_setting_that_the_program_reads_has_its_row() {
    assert!(
        parse(FILE).is_ok(),
        "{}",
        parse(FILE).expect_err("a problem")
    );
    let rows: BTreeSet<String> = ROWS.iter().map(|row| row.0.to_owned()).collect();
    assert_eq!(rows.len(), ROWS.len(), "a setting has two rows");
    let settings = settings();
    let without: Vec<_> = settings.difference(&rows).collect();
    assert!(
        without.is_empty(),
        "without a test of their effect: {without:?}"
    );
    let gone: Vec<_> = rows.difference(&settings).collect();
    assert!(gone.is_empty(), "not read any more: {gone:?}");
}

#[test]
fn the_page_has_every_setting() {
    let page = page();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words: BTreeSet<&str> = page.split(|c| !is_word(c)).collect();
    for setting in settings() {
        let name = setting.rsplit('.').next().unwrap();
        assert!(
            words.contains(name),
            "{setting} is not in docs/configuration.md"
        );
    }
}

#[test]
fn every_row_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    for (setting, start, _, reload) in ROWS {
        for test in [start, reload] {
            let (file, name) = test.split_once("::").unwrap();
            let text = files.entry(file).or_insert_with(|| {
                let folder = if file.contains('/') { "src" } else { "tests" };
                let path = root.join(folder).join(format!("{file}.rs"));
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
            });
            let is_there = text.contains(&format!("#[test]\nfn {name}("));
            assert!(is_there, "{setting}: no test {test}");
        }
    }
}

#[test]
fn what_takes_one_value_takes_no_other() {
    let others = [
        ("version", "version = 1\n#root", "version = 2\n#root"),
        (
            "listeners.*.protocol",
            "protocol = \"mysql\"",
            "protocol = \"http\"",
        ),
        ("hash.version", "[hash]\nversion = 1", "[hash]\nversion = 2"),
    ];
    let rows = ROWS.iter().filter(|row| row.2 == OneValue);
    let named: Vec<&str> = rows.map(|row| row.0).collect();
    assert_eq!(named, others.map(|other| other.0));
    for (setting, from, to) in others {
        assert!(FILE.contains(from), "{from}");
        let errors = parse(&FILE.replacen(from, to, 1)).expect_err(setting);
        let message = errors.to_string();
        assert_eq!(errors.problems().len(), 1, "{message}");
    }
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    fs::read_to_string(path).unwrap()
}

/// The page's table of what a reload changes is that of the rows; with RINGGATE_WRITE_DOCS set, it is written.
#[test]
fn the_page_says_what_a_reload_changes() {
    let reaches = [
        (All, "whoever is there, waits that go on included"),
        (Coming, "connections and clients that come from then on"),
        (
            Restart,
            "nobody: such a reload is refused, a restart is needed",
        ),
    ];
    let mut table = String::new();
    for (reach, whom) in reaches {
        let rows = ROWS.iter().filter(|row| row.2 == reach);
        let names: Vec<String> = rows.map(|row| format!("`{}`", row.0)).collect();
        table += &format!("| {whom} | {} |\n", names.join(", "));
    }
    let head = "| for | settings |\n|---|---|\n";
    let page_text = page();
    let (before, rest) = page_text.split_once(head).expect("the table's head");
    let after: String = rest
        .lines()
        .skip_while(|line| line.starts_with('|'))
        .map(|line| format!("{line}\n"))
        .collect();
    let expect = format!("{before}{head}{table}{after}");
    if std::env::var_os("RINGGATE_WRITE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        fs::write(path, &expect).unwrap();
    }
    assert_eq!(
        page(),
        expect,
        "run with RINGGATE_WRITE_DOCS=1 to rewrite it"
    );
}
