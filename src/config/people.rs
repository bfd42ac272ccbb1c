//! Reads tenants and users.

use std::time::Duration;

use crate::base::credential::{AuthPlugin, Verifier};
use crate::base::ident::{PlacementId, TenantId};

use super::doors::check_name;
use super::places::{Places, check_account, read_upstream};
use super::problem::{Code, Problem};
use super::reader::{At, Section, suggest};
use super::secrets::{Sources, go_together, read_verifier};
use super::snapshot::{HashRule, Tenant, User};

/// `[tenants.*]`, in the order of their names.
pub(super) fn read_tenants(
    root: &mut Section<'_>,
    places: &Places,
    hash: Option<&HashRule>,
    sources: &Sources<'_>,
) -> Vec<Tenant> {
    let sections = root.named("tenants");
    sections
        .into_iter()
        .map(|(name, section)| read_tenant(&name, section, places, hash, sources))
        .collect()
}

fn read_tenant(
    name: &At<String>,
    mut section: Section<'_>,
    places: &Places,
    hash: Option<&HashRule>,
    sources: &Sources<'_>,
) -> Tenant {
    check_name(name, section.problems);
    let placement_name = section.text("placement");
    let placement = placement_name
        .as_ref()
        .and_then(|name| places.find(name, section.problems));
    let tenant = Tenant {
        name: name.value.clone(),
        placement,
        schema: read_schema(&mut section),
        upstream: read_upstream(&mut section, sources),
        connections_max: section.number32("connections_max", 1..=10_000_000),
        connections_upstream_max: section.number32("connections_upstream_max", 1..=100_000),
        statement: section.duration_at(
            "statement",
            Duration::ZERO..=Duration::from_secs(365 * 86_400),
        ),
    };
    let reachable: Vec<PlacementId> = match (&placement_name, hash) {
        (Some(_), _) => placement.into_iter().collect(),
        (None, Some(hash)) => hash.placements.clone(),
        (None, None) => {
            if section.is_present() && !section.has("placement") {
                let message = format!("tenant `{}` has no way to a placement", name.value);
                let problem = Problem::at(
                    Code::NoPlacement,
                    &name.span,
                    message,
                    "no placement, and no [hash]",
                );
                section.problems.push(
                    problem.help("add `placement = \"…\"` here, or a [hash] over placements"),
                );
            }
            Vec::new()
        }
    };
    if !section.has("upstream") {
        check_accounts(name, &section, places, &reachable);
    }
    section.finish();
    tenant
}

/// A tenant without an account of its own needs one at every placement it may reach.
fn check_accounts(
    tenant: &At<String>,
    section: &Section<'_>,
    places: &Places,
    reachable: &[PlacementId],
) {
    for id in reachable {
        let Some((placement, has_account)) = places.account_at(*id) else {
            continue;
        };
        if has_account {
            continue;
        }
        let message = format!(
            "tenant `{}` has no account at placement `{}`",
            tenant.value, placement
        );
        let problem = Problem::at(
            Code::NoUpstream,
            &tenant.span,
            message,
            "no upstream account",
        );
        section.problems.push(
            problem.help(
                "add `upstream = { user = …, password = … }` to the tenant or to the placement",
            ),
        );
    }
}

fn read_schema(section: &mut Section<'_>) -> Option<String> {
    let schema = section.text("schema")?;
    let fits = (1..=64).contains(&schema.value.chars().count())
        && !schema.value.chars().any(char::is_control);
    if !fits {
        let problem = Problem::at(
            Code::BadName,
            &schema.span,
            "this is no name of a schema",
            "this name",
        );
        section
            .problems
            .push(problem.help("a schema's name has 1 to 64 characters"));
    }
    fits.then_some(schema.value)
}

/// `[users.*]`, in the order of their names.
pub(super) fn read_users(
    root: &mut Section<'_>,
    tenants: &[Tenant],
    sources: &Sources<'_>,
) -> Vec<User> {
    // Without any, under a name much like theirs, it is said already what is wrong.
    let tenants = (!tenants.is_empty() || !root.misspells("tenants")).then_some(tenants);
    let sections = root.named("users");
    sections
        .into_iter()
        .filter_map(|(name, section)| read_user(name, section, tenants, sources))
        .collect()
}

fn read_user(
    name: At<String>,
    mut section: Section<'_>,
    tenants: Option<&[Tenant]>,
    sources: &Sources<'_>,
) -> Option<User> {
    check_account(&name, section.problems);
    let tenant = section.required_text("tenant", "tenant = \"…\"");
    let tenant = tenant.zip(tenants);
    let tenant = tenant.and_then(|(name, tenants)| find_tenant(&name, &section, tenants));
    let plugins =
        [AuthPlugin::CachingSha2, AuthPlugin::Native].map(|plugin| (plugin.name(), plugin));
    let plugin = section.choice("plugin", &plugins);
    let verifier = if section.is_present() {
        read_verifier(&mut section, sources)
    } else {
        None
    };
    let user = verifier.and_then(|verifier| {
        let plugin = plugin.unwrap_or(plugin_for(&verifier));
        if !go_together(plugin, &verifier) {
            let message = format!("`{}` cannot log in with {}", section.path, plugin.name());
            let problem = Problem::at(
                Code::PluginMismatch,
                &section.span_of("plugin"),
                message,
                "this plugin",
            );
            section.problems.push(problem.help(format!(
                "its verifier is for {}",
                plugin_for(&verifier).name()
            )));
        }
        Some(User {
            name: name.value,
            tenant: tenant?,
            plugin,
            verifier,
        })
    });
    section.finish();
    user
}

/// The best plugin that the verifier serves.
fn plugin_for(verifier: &Verifier) -> AuthPlugin {
    match verifier {
        Verifier::Native(_) => AuthPlugin::Native,
        _ => AuthPlugin::CachingSha2,
    }
}

fn find_tenant(name: &At<String>, section: &Section<'_>, tenants: &[Tenant]) -> Option<TenantId> {
    let index = tenants
        .binary_search_by(|tenant| tenant.name.as_str().cmp(&name.value))
        .ok();
    if index.is_none() {
        let names: Vec<&str> = tenants.iter().map(|tenant| tenant.name.as_str()).collect();
        let problem = Problem::at(
            Code::UnknownName,
            &name.span,
            format!("there is no tenant `{}`", name.value),
            "not a tenant",
        );
        section
            .problems
            .push(problem.help(suggest(&name.value, &names)));
    }
    index
        .and_then(|index| u32::try_from(index).ok())
        .map(TenantId)
}
