//! Reads placements with their endpoints, accounts at upstreams, and the hash rule.

use aws_lc_rs::digest::{self, SHA256};

use crate::base::address::{Destination, unix_path};
use crate::base::ident::{EndpointIndex, PlacementId};
use crate::base::secret::Secret;

use super::doors::{check_name, read_socket, refuse_tcp_options};
use super::machine::Machine;
use super::problem::{Code, Problem, Problems};
use super::process::read_budget;
use super::reader::{At, Section, suggest, wrong_type};
use super::secrets::{Sources, read_secret};
use super::snapshot::{CredentialVersion, Endpoint, EndpointRole, HashRule, Placement, Upstream};
use super::units::parse_host_port;

/// Endpoints of one placement; more is a mistake, and the choice looks at each of them.
const ENDPOINTS_MAX: usize = 256;

/// What an endpoint inherits and is checked against.
pub(super) struct Ground<'a> {
    /// The budget of endpoints that state none.
    pub(super) default: At<u32>,
    /// How many cores share it, when known.
    pub(super) cores: Option<usize>,
    /// What the machine grants.
    pub(super) machine: &'a Machine,
}

/// All placements and their endpoints.
#[derive(Default)]
pub(super) struct Places {
    pub(super) placements: Vec<Placement>,
    pub(super) endpoints: Vec<Endpoint>,
    /// By placement: whether the file gives an account, readable or not.
    have_account: Vec<bool>,
}

impl Places {
    /// The name of a placement, and whether the file gives an account for it.
    pub(super) fn account_at(&self, id: PlacementId) -> Option<(&str, bool)> {
        let index = usize::try_from(id.0).ok()?;
        let has_account = *self.have_account.get(index)?;
        Some((self.placements.get(index)?.name.as_str(), has_account))
    }

    /// The placement called `name`; reports one that is not there.
    pub(super) fn find(&self, name: &At<String>, problems: &Problems) -> Option<PlacementId> {
        let index = self
            .placements
            .binary_search_by(|p| p.name.as_str().cmp(&name.value))
            .ok();
        // Without any it is said already that there are none.
        if index.is_none() && !self.placements.is_empty() {
            let names: Vec<&str> = self.placements.iter().map(|p| p.name.as_str()).collect();
            let message = format!("there is no placement `{}`", name.value);
            let problem = Problem::at(Code::UnknownName, &name.span, message, "not a placement");
            problems.push(problem.help(suggest(&name.value, &names)));
        }
        index
            .and_then(|index| u32::try_from(index).ok())
            .map(PlacementId)
    }
}

/// `[placements.*]`, in the order of their names.
pub(super) fn read_places(
    root: &mut Section<'_>,
    ground: &Ground<'_>,
    sources: &Sources<'_>,
) -> Places {
    let mut places = Places::default();
    let sections = root.named("placements");
    let is_told = root.has_other_than_table("placements") || root.misspells("placements");
    if sections.is_empty() && !is_told {
        let example = "[placements.main]\nendpoints = [{ address = \"db1:3306\" }]";
        root.missing("placements", example);
    }
    if budget_is_short(ground.default.value, ground.cores) {
        report_short_budget(&ground.default, ground.cores, root.problems);
    }
    for (name, section) in sections {
        let id = PlacementId(u32::try_from(places.placements.len()).unwrap_or(u32::MAX));
        places.have_account.push(section.has("upstream"));
        let placement = read_placement(id, name, section, ground, sources, &mut places.endpoints);
        places.placements.push(placement);
    }
    places
}

fn read_placement(
    id: PlacementId,
    name: At<String>,
    mut section: Section<'_>,
    ground: &Ground<'_>,
    sources: &Sources<'_>,
    endpoints: &mut Vec<Endpoint>,
) -> Placement {
    check_name(&name, section.problems);
    let own = read_budget(&mut section).unwrap_or(ground.default.clone());
    if own.span != ground.default.span && budget_is_short(own.value, ground.cores) {
        report_short_budget(&own, ground.cores, section.problems);
    }
    let upstream = read_upstream(&mut section, sources);
    let socket = read_socket(&mut section, ground.machine);
    let read = read_endpoints(id, &mut section, own.value);
    if !read.is_empty() && read.iter().all(|endpoint| endpoint.destination.is_unix()) {
        refuse_tcp_options(&section, "every endpoint here is a Unix socket");
    }
    section.finish();
    let first = endpoints.len();
    endpoints.extend(read);
    let ids = (first..endpoints.len())
        .filter_map(|at| u32::try_from(at).ok())
        .map(EndpointIndex);
    Placement {
        name: name.value,
        endpoints: ids.collect(),
        upstream,
        socket,
    }
}

fn budget_is_short(budget: u32, cores: Option<usize>) -> bool {
    cores.is_some_and(|cores| usize::try_from(budget).is_ok_and(|budget| budget < cores))
}

fn report_short_budget(budget: &At<u32>, cores: Option<usize>, problems: &Problems) {
    let cores = cores.unwrap_or(0);
    let plural = if budget.value == 1 { "" } else { "s" };
    let message = format!(
        "a budget of {} connection{plural} cannot serve {cores} cores, which need one each",
        budget.value
    );
    let problem = Problem::at(
        Code::Contradiction,
        &budget.span,
        message,
        "fewer than cores",
    );
    problems.push(problem.help(format!("make it at least {cores}, or run fewer cores")));
}

fn read_endpoints(placement: PlacementId, section: &mut Section<'_>, budget: u32) -> Vec<Endpoint> {
    let example = "endpoints = [{ address = \"db1:3306\", role = \"primary\" }]";
    if !section.has("endpoints") {
        section.missing("endpoints", example);
    }
    let path = section.path_of("endpoints");
    let Some(values) = section.array("endpoints") else {
        return Vec::new();
    };
    let span = section.span_of("endpoints");
    let complain = |message: &str, help: &str| {
        let problem = Problem::at(
            Code::Contradiction,
            &span,
            format!("`{path}` {message}"),
            "these endpoints",
        );
        section.problems.push(problem.help(help));
    };
    if values.len() > ENDPOINTS_MAX {
        complain(
            "has too many endpoints",
            &format!("a placement has at most {ENDPOINTS_MAX}"),
        );
        return Vec::new();
    }
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let mut is_whole = true;
    for (index, value) in values.iter().enumerate() {
        let entry = Section::of_value(format!("{path}[{index}]"), value, section.problems);
        let Some(endpoint) = read_endpoint(placement, entry, budget, &endpoints) else {
            is_whole = false;
            continue;
        };
        endpoints.push(endpoint);
    }
    // Relations are judged only when every endpoint could be read.
    if values.is_empty() {
        complain("is empty", &format!("write `{example}`"));
    } else if is_whole && endpoints.iter().all(|e| e.role != EndpointRole::Primary) {
        complain(
            "has no primary",
            "mark one endpoint with `role = \"primary\"`",
        );
    } else if is_whole
        && endpoints
            .iter()
            .all(|e| e.role != EndpointRole::Primary || e.weight == 0)
    {
        complain(
            "has only primaries of weight 0",
            "give one of them a weight above 0",
        );
    }
    endpoints
}

fn read_endpoint(
    placement: PlacementId,
    mut section: Section<'_>,
    budget: u32,
    earlier: &[Endpoint],
) -> Option<Endpoint> {
    let address = section.required_text("address", "address = \"db1:3306\"");
    let roles = [EndpointRole::Primary, EndpointRole::Replica].map(|role| (role.label(), role));
    let role = if section.has("role") {
        section.choice("role", &roles)
    } else {
        Some(EndpointRole::Primary)
    };
    let _ = (!section.has("role")).then(|| section.get("role"));
    let zone = section.text("zone");
    if let Some(zone) = &zone {
        check_name(zone, section.problems);
    }
    let weight = section
        .number("weight", 0..=10_000)
        .and_then(|at| u16::try_from(at.value).ok());
    let destination = address.and_then(|address| read_destination(&section, address, earlier));
    section.finish();
    let destination = destination?;
    let zone = zone.map(|zone| zone.value).unwrap_or_default();
    Some(Endpoint {
        placement,
        destination,
        role: role?,
        zone,
        weight: weight.unwrap_or(100),
        budget,
    })
}

fn read_destination(
    section: &Section<'_>,
    address: At<String>,
    earlier: &[Endpoint],
) -> Option<Destination> {
    let host = |text: &str| {
        let (name, port) = parse_host_port(text)?;
        Ok(Destination::Host { name, port })
    };
    let read = match unix_path(&address.value) {
        Ok(Some(path)) => Ok(Destination::Unix(path)),
        Ok(None) => host(&address.value),
        Err(error) => Err(error.to_string()),
    };
    let destination = match read {
        Ok(destination) => destination,
        Err(help) => {
            section.out_of_range("address", &address.span, help);
            return None;
        }
    };
    if earlier.iter().any(|e| e.destination == destination) {
        let message = format!("{} is in this placement twice", address.value);
        let problem = Problem::at(Code::AddressTaken, &address.span, message, "again");
        section
            .problems
            .push(problem.help("its budget would count twice; use `weight` for a larger share"));
    }
    Some(destination)
}

/// `upstream` of a placement or a tenant.
pub(super) fn read_upstream(section: &mut Section<'_>, sources: &Sources<'_>) -> Option<Upstream> {
    if !section.has("upstream") {
        let _ = section.get("upstream");
        return None;
    }
    let mut section = section.section("upstream");
    let user = section.required_text("user", "user = \"ringgate\"");
    let is_passwordless = section.flag("passwordless").unwrap_or(false);
    let password = read_secret(&mut section, "password", sources);
    let has_password = section.has("password");
    if is_passwordless == has_password {
        let (message, help) = if has_password {
            ("has a password and is passwordless", "keep one")
        } else {
            ("has no password", "add `password = { env = \"NAME\" }`")
        };
        let code = if has_password {
            Code::Contradiction
        } else {
            Code::Missing
        };
        let problem = Problem::at(
            code,
            &section.span,
            format!("`{}` {message}", section.path),
            "this account",
        );
        let _ = section
            .is_present()
            .then(|| section.problems.push(problem.help(help)));
    }
    if let Some(user) = &user {
        check_account(user, section.problems);
    }
    section.finish();
    let password = if is_passwordless {
        Secret::default()
    } else {
        password?.value
    };
    Some(account(user?.value, password))
}

/// An account with the version that tells its states apart.
fn account(user: String, password: Secret) -> Upstream {
    let mut context = digest::Context::new(&SHA256);
    context.update(user.as_bytes());
    context.update(&[0]);
    context.update(password.expose());
    let digest = context.finish();
    let bytes: [u8; 8] = digest.as_ref().first_chunk().copied().unwrap_or_default();
    Upstream {
        user,
        password,
        version: CredentialVersion(u64::from_le_bytes(bytes)),
    }
}

/// Names of accounts: what MySQL (32 characters) and MariaDB (80) can hold.
pub(super) fn check_account(name: &At<String>, problems: &Problems) {
    let length = name.value.chars().count();
    if !(1..=80).contains(&length) || name.value.chars().any(char::is_control) {
        let problem = Problem::at(
            Code::BadName,
            &name.span,
            "this is no name of an account",
            "this name",
        );
        problems
            .push(problem.help("a name has 1 to 80 characters, none of them a control character"));
    }
}

/// `[hash]`, if it is there.
pub(super) fn read_hash(root: &mut Section<'_>, places: &Places) -> Option<HashRule> {
    if !root.has("hash") {
        let _ = root.get("hash");
        return None;
    }
    let mut section = root.section("hash");
    let version = section.number32("version", 1..=1).unwrap_or(1);
    let seed = section
        .number("seed", 0..=i64::MAX.unsigned_abs())
        .map_or(0, |at| at.value);
    if !section.has("placements") {
        section.missing("placements", "placements = [\"shard-a\", \"shard-b\"]");
    }
    let values = section.array("placements").unwrap_or_default();
    let mut placements = Vec::new();
    for value in values {
        let Some(text) = value.get_ref().as_str() else {
            section
                .problems
                .push(wrong_type("hash.placements", "names of placements", value));
            continue;
        };
        let name = At {
            value: text.to_owned(),
            span: value.span(),
        };
        let Some(id) = places.find(&name, section.problems) else {
            continue;
        };
        if placements.contains(&id) {
            let message = format!("placement `{text}` is named twice");
            let problem = Problem::at(Code::Contradiction, &name.span, message, "again");
            section.problems.push(problem.help("name it once"));
        }
        placements.push(id);
    }
    if values.is_empty() && section.has("placements") {
        let problem = Problem::at(
            Code::Contradiction,
            &section.span_of("placements"),
            "`hash.placements` is empty",
            "nothing to choose from",
        );
        section
            .problems
            .push(problem.help("name one placement or more, or remove `[hash]`"));
    }
    section.finish();
    placements.sort_unstable();
    Some(HashRule {
        version,
        seed,
        placements,
    })
}
