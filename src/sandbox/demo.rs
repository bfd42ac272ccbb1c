//! The demo's data: two tenants, each on a shard of its own, with the same database and different rows.

use super::shard::{Shard, ShardOptions};
use std::io;

/// The database both tenants have.
pub const DEMO_SCHEMA: &str = "shop";

/// The account under which a gateway reaches the demo's shards.
pub const DEMO_UPSTREAM: (&str, &str) = ("gateway", "gateway-secret");

/// A tenant of the demo: what its client logs in with, and what it then sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemoTenant {
    /// The user at the gateway.
    pub user: &'static str,
    /// Its password.
    pub password: &'static str,
    /// Its orders, oldest first: customer, item, price.
    pub orders: [(&'static str, &'static str, &'static str); 3],
}

/// The tenant on shard `a`.
pub const ACME: DemoTenant = DemoTenant {
    user: "acme",
    password: "acme-demo",
    orders: [
        ("Wile E. Coyote", "Rocket skates", "129.00"),
        ("Wile E. Coyote", "Giant magnet", "49.50"),
        ("Road Runner", "Bird seed", "3.20"),
    ],
};

/// The tenant on shard `b`.
pub const GLOBEX: DemoTenant = DemoTenant {
    user: "globex",
    password: "globex-demo",
    orders: [
        ("Hank Scorpio", "Hammock", "89.00"),
        ("Homer Simpson", "Moleman statue", "15.75"),
        ("Hank Scorpio", "Weather machine", "999999.99"),
    ],
};

/// The demo's shards, running.
pub struct DemoShards {
    /// [`ACME`]'s.
    pub a: Shard,
    /// [`GLOBEX`]'s.
    pub b: Shard,
}

/// Starts both shards on free loopback ports and fills them.
///
/// Errors: a shard cannot be started (see [`Shard::start`]); the seed is refused (a bug).
pub fn demo_shards() -> io::Result<DemoShards> {
    Ok(DemoShards {
        a: demo_shard(&ACME)?,
        b: demo_shard(&GLOBEX)?,
    })
}

fn demo_shard(tenant: &DemoTenant) -> io::Result<Shard> {
    let (user, password) = DEMO_UPSTREAM;
    let shard = Shard::start(ShardOptions {
        users: vec![(user.to_owned(), password.to_owned())],
        databases: vec![DEMO_SCHEMA.to_owned()],
        ..ShardOptions::default()
    })?;
    let seeded = shard.execute(DEMO_SCHEMA, &seed(tenant));
    seeded.map_err(io::Error::other)?;
    Ok(shard)
}

/// The SQL that makes a tenant's tables and rows.
fn seed(tenant: &DemoTenant) -> String {
    let mut sql = String::from(
        "CREATE TABLE customers (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(60) NOT NULL UNIQUE); \
         CREATE TABLE orders (id INT PRIMARY KEY AUTO_INCREMENT, customer_id INT NOT NULL, \
         item VARCHAR(60) NOT NULL, price DECIMAL(10,2) NOT NULL, \
         placed_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP, KEY by_customer (customer_id));",
    );
    for (customer, item, price) in tenant.orders {
        sql += &format!(
            "INSERT IGNORE INTO customers (name) VALUES ('{customer}'); \
             INSERT INTO orders (customer_id, item, price) \
             SELECT id, '{item}', {price} FROM customers WHERE name = '{customer}';"
        );
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_has_its_tenants_rows_and_no_others() {
        let shards = demo_shards().unwrap();
        assert_ne!(shards.a.address(), shards.b.address());
        for (shard, own, other) in [(&shards.a, ACME, GLOBEX), (&shards.b, GLOBEX, ACME)] {
            for (tenant, refused) in [(own, true), (other, false)] {
                // A row that is there stands in the way of its copy.
                let name = tenant.orders[0].0;
                let again = format!("INSERT INTO customers (name) VALUES ('{name}')");
                let errno = shard
                    .execute(DEMO_SCHEMA, &again)
                    .err()
                    .map(|error| error.errno);
                assert_eq!(errno, refused.then_some(1062), "{name}");
            }
        }
    }
}
