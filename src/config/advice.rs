//! What a checked configuration may do though nobody wants it: said by `ringgate check`, refused by nobody.

use std::collections::{BTreeMap, BTreeSet};

use super::snapshot::Snapshot;
use crate::base::ident::{PlacementId, TenantId};

/// Tenants and placements named in one piece of advice; the others are counted.
const NAMED_MAX: usize = 5;

/// Something to think about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What is so, in one sentence without a full stop.
    pub message: String,
    /// What would be right.
    pub help: String,
}

/// A server's account, by the server's address and the account's name.
type Account<'a> = (String, &'a str);
/// Who logs in with it, and by which placements.
type Users<'a> = (BTreeSet<&'a str>, BTreeSet<&'a str>);

impl Snapshot {
    /// Where several tenants log in on a server with one account, and where a tenant's bound on connections bounds
    /// nothing; `placement_of` says where a tenant's data is.
    pub fn advice(&self, placement_of: impl Fn(TenantId) -> Option<PlacementId>) -> Vec<Advice> {
        let mut accounts: BTreeMap<Account<'_>, Users<'_>> = BTreeMap::new();
        let mut advice: Vec<Advice> = Vec::new();
        for (tenant, index) in self.tenants.iter().zip(0_u32..) {
            let id = TenantId(index);
            let found = placement_of(id).and_then(|placement| {
                let upstream = self.upstream(id, placement)?;
                Some((upstream, self.placement(placement)?))
            });
            let Some((upstream, place)) = found else {
                continue;
            };
            let endpoints = || place.endpoints.iter().filter_map(|id| self.endpoint(*id));
            let budget = endpoints().map(|endpoint| endpoint.budget).max();
            let bound = tenant.connections_upstream_max;
            if let Some((max, budget)) = bound.zip(budget).filter(|(max, budget)| max >= budget) {
                advice.push(idle_bound(&tenant.name, max, budget));
            }
            for endpoint in endpoints() {
                let account = (endpoint.address(), &*upstream.user);
                let (tenants, places) = accounts.entry(account).or_default();
                tenants.insert(&tenant.name);
                places.insert(&place.name);
            }
        }
        for ((_, user), (tenants, places)) in &accounts {
            let shared = shared_account(user, tenants, places);
            // A placement's servers have the same users.
            if tenants.len() > 1 && !advice.contains(&shared) {
                advice.push(shared);
            }
        }
        advice
    }
}

fn idle_bound(tenant: &str, max: u32, budget: u32) -> Advice {
    Advice {
        message: format!(
            "`connections_upstream_max = {max}` of tenant `{tenant}` bounds nothing: its endpoints have no more than \
             {budget} connections each"
        ),
        help: format!(
            "make it less than {budget}, so that other tenants are served whatever this one holds, or leave it out"
        ),
    }
}

fn shared_account(user: &str, tenants: &BTreeSet<&str>, places: &BTreeSet<&str>) -> Advice {
    let (who, at) = (listed("tenant", tenants), listed("placement", places));
    Advice {
        message: format!(
            "{who} log in with the same account `{user}` at {at}: each of them can use whatever \
             schema that account has rights on"
        ),
        help: "give each tenant an `upstream = { user = …, password = … }` of its own, with rights on \
               its own schema alone"
            .to_owned(),
    }
}

/// "tenants `a`, `b` and 3 more".
fn listed(noun: &str, names: &BTreeSet<&str>) -> String {
    let plural = if names.len() == 1 { "" } else { "s" };
    let shown: Vec<String> = names
        .iter()
        .take(NAMED_MAX)
        .map(|n| format!("`{n}`"))
        .collect();
    let more = match names.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{noun}{plural} {}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::Advice;
    use crate::base::ident::TenantId;

    const HEAD: &str = r#"
version = 1
[listeners.main]
address = "127.0.0.1:0"
[placements.p]
endpoints = [{ address = "db1:3306" }, { address = "db2:3306", role = "replica" }]
upstream = { user = "gw", password = { env = "X" } }
[placements.q]
endpoints = [{ address = "db3:3306" }]
upstream = { user = "gw", password = { env = "X" } }
"#;

    fn messages(rest: &str) -> Vec<String> {
        let text = format!("{HEAD}{rest}");
        let snapshot = crate::config::parse("x.toml", &text, &|_| Some("s".into()));
        let snapshot = snapshot.unwrap();
        // As a hash might: the first half of those that name no placement at one, the rest at the other.
        let hashed = |TenantId(index)| {
            let index = usize::try_from(index).ok()?;
            let half = snapshot.tenants.len() / 2;
            let placements = &snapshot.hash.as_ref()?.placements;
            placements.get(usize::from(index >= half)).copied()
        };
        let advice = snapshot.advice(|id| snapshot.tenant(id)?.placement.or_else(|| hashed(id)));
        let says = |advice: &Advice| {
            let right = ["`upstream = { user", "make it less than"];
            right.iter().any(|right| advice.help.contains(right))
        };
        assert!(advice.iter().all(says), "{advice:?}");
        advice.into_iter().map(|advice| advice.message).collect()
    }

    #[test]
    fn tenants_that_share_an_account_on_a_server_are_named() {
        let both = "[tenants.a]\nplacement = \"p\"\n[tenants.b]\nplacement = \"p\"\n";
        let [shared] = &messages(both)[..] else {
            panic!("{:?}", messages(both));
        };
        assert!(shared.starts_with("tenants `a`, `b` log in"), "{shared}");
        assert!(
            shared.contains("account `gw` at placement `p`:"),
            "{shared}"
        );
        let apart = both.replacen("\"p\"", "\"q\"", 1);
        assert_eq!(messages(&apart), [""; 0], "on servers of their own");
        let own = format!("{both}upstream = {{ user = \"b\", password = {{ env = \"X\" }} }}\n");
        assert_eq!(messages(&own), [""; 0], "with an account of its own");
        let same = own.replace("\"b\", p", "\"gw\", p");
        assert_eq!(messages(&same).len(), 1, "of its own, and the same one");
    }

    #[test]
    fn a_bound_that_the_budget_never_lets_a_tenant_reach_is_named() {
        let tenant = |max: &str| {
            format!(
                "[pools]\nbudget = 8\n[tenants.a]\nplacement = \"p\"\nconnections_upstream_max = {max}\n"
            )
        };
        for (max, expect) in [("7", 0), ("8", 1), ("9", 1)] {
            let found = messages(&tenant(max));
            assert_eq!(found.len(), expect, "{max}: {found:?}");
            let bounds = |message: &String| message.contains(&format!("= {max}` of tenant `a`"));
            assert!(found.iter().all(bounds), "{found:?}");
        }
    }

    #[test]
    fn placements_on_one_server_share_too_and_hashed_tenants_where_they_are() {
        let on_one = "[placements.r]\nendpoints = [{ address = \"db3:3306\" }]\n\
            upstream = { user = \"gw\", password = { env = \"X\" } }\n\
            [tenants.a]\nplacement = \"r\"\n[tenants.b]\nplacement = \"q\"\n";
        let shared = messages(on_one);
        assert!(
            shared.concat().contains("at placements `q`, `r`:"),
            "{shared:?}"
        );
        let mut hashed = "[hash]\nplacements = [\"p\", \"q\"]\n".to_owned();
        for n in 1..=2 {
            hashed.push_str(&format!("[tenants.t{n}]\n"));
        }
        assert_eq!(messages(&hashed), [""; 0], "one at each");
        for n in 3..=9 {
            hashed.push_str(&format!("[tenants.t{n}]\n"));
        }
        for n in 1..=4 {
            hashed.push_str(&format!("[tenants.u{n}]\n"));
        }
        let shared = messages(&hashed);
        assert_eq!(shared.len(), 2, "{shared:?}");
        assert!(shared[0].contains("`t5` and 1 more log in"), "{shared:?}");
        assert!(
            shared[1].contains("`t7`, `t8`, `t9`, `u1`, `u2` and 2 more log in"),
            "{shared:?}"
        );
    }
}
