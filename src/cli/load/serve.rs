//! `ringgate load serve mysql|http`: a null server until SIGINT or SIGTERM.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::base::credential::AuthPlugin;
use crate::cli::EXIT_RUNTIME;
use crate::config::parse_cpus;
use crate::core::preflight::{CpuChoice, allowed_cpus, choose_cpus};
use crate::load::serve::answer::{AnswerShape, ROW_BYTES_MAX};
use crate::load::serve::service::ServiceTime;
use crate::load::serve::{HttpOptions, Kind, MysqlOptions, ServeOptions, Served, Server};

/// Bytes of a row in an answer whose size is given in all.
const ROW_BYTES_OF_LARGE: u64 = 1024;

/// The arguments of `ringgate load serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(subcommand)]
    kind: KindArgs,
}

#[derive(Debug, Subcommand)]
enum KindArgs {
    /// A MySQL server: one result set for every SELECT, OK for the rest.
    Mysql(MysqlArgs),
    /// An HTTP/1.1 server: one response for every request.
    Http(HttpArgs),
}

#[derive(Debug, Args)]
struct CommonArgs {
    /// Where to listen; port 0 takes a free one. The address is printed when clients may come.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Serve on so many cores: the first CPUs the process may run on.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 1,
        conflicts_with = "cpus"
    )]
    cores: usize,
    /// Serve on these CPUs, for example 1 or 0-3,6.
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// How long an answer takes: none, constant:100us, exponential:200us (the mean) or
    /// lognormal:200us,0.5 (the median and sigma).
    #[arg(long, value_name = "TIME", default_value = "none")]
    service_time: ServiceTime,
    /// The seed of the service times.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
struct MysqlArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Rows of the answer.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    rows: u64,
    /// Bytes of each row's value [default: 119, or 1024 with --answer-size].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    row_size: Option<u64>,
    /// Bytes of all values together, in as many rows as it takes.
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "rows")]
    answer_size: Option<u64>,
    /// Let in this user alone [default: anyone, with any password].
    #[arg(long, value_name = "NAME", requires = "password")]
    user: Option<String>,
    /// The user's password. It shows in the process list: use one that opens nothing else.
    #[arg(long, value_name = "TEXT", requires = "user")]
    password: Option<String>,
    /// The authentication plugin of the greeting.
    #[arg(long, value_enum, default_value_t = Plugin::Native)]
    plugin: Plugin,
    /// The version of the greeting.
    #[arg(long, value_name = "TEXT", default_value = "8.0.40-ringgate-null")]
    server_version: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Plugin {
    /// mysql_native_password
    Native,
    /// caching_sha2_password
    Sha2,
}

#[derive(Debug, Args)]
struct HttpArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Bytes of the body.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "128")]
    answer_size: u64,
    /// The status of every response.
    #[arg(long, value_name = "CODE", default_value_t = 200)]
    status: u16,
}

/// Serves until a signal ends it.
pub(super) fn run(arguments: ServeArgs) -> ExitCode {
    let served = options(arguments).and_then(|options| serve(&options));
    match served {
        Ok(served) => {
            say(&summary(&served));
            ExitCode::SUCCESS
        }
        Err(error) => {
            // A closed standard error is no reason to fail otherwise.
            let _ = writeln!(std::io::stderr(), "ringgate load serve: {error}");
            ExitCode::from(EXIT_RUNTIME)
        }
    }
}

fn serve(options: &ServeOptions) -> Result<Served, String> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(|error| format!("no signals: {error}"))?;
    let server = Server::start(options)?;
    say(&format!("listening on {}", server.address()));
    let stopper = server.stopper();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.forever().next().is_some() {
                stopper.stop();
            }
        })
        .map_err(|error| format!("no thread: {error}"))?;
    server.wait()
}

/// Prints a line; whoever closed standard output does not want it.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// What was done, in one line.
fn summary(served: &Served) -> String {
    let mut line = format!(
        "served {} answers to {} requests on {} connections",
        served.answers, served.requests, served.connections
    );
    if served.taken.count() > 0 {
        let us = |nanos: u64| nanos / 1000;
        let (drawn, taken) = (&served.drawn, &served.taken);
        line.push_str(&format!(
            "; service time drawn p50 {} us p99 {} us, taken p50 {} us p99 {} us",
            us(drawn.quantile(0.5)),
            us(drawn.quantile(0.99)),
            us(taken.quantile(0.5)),
            us(taken.quantile(0.99)),
        ));
    }
    line
}

fn options(arguments: ServeArgs) -> Result<ServeOptions, String> {
    let (common, kind) = match arguments.kind {
        KindArgs::Mysql(arguments) => {
            let answer = shape(&arguments)?;
            let kind = Kind::Mysql(MysqlOptions {
                answer,
                account: arguments.user.zip(arguments.password),
                plugin: match arguments.plugin {
                    Plugin::Native => AuthPlugin::Native,
                    Plugin::Sha2 => AuthPlugin::CachingSha2,
                },
                version: arguments.server_version,
            });
            (arguments.common, kind)
        }
        KindArgs::Http(arguments) => {
            let body_bytes = usize::try_from(arguments.answer_size);
            let kind = Kind::Http(HttpOptions {
                status: arguments.status,
                body_bytes: body_bytes.map_err(|_| "the answer is too large")?,
            });
            (arguments.common, kind)
        }
    };
    let choice = match &common.cpus {
        Some(list) => {
            let cpus = parse_cpus(list)?.into_iter().map(usize::from);
            CpuChoice::These(cpus.collect())
        }
        None => CpuChoice::Count(common.cores),
    };
    let allowed = allowed_cpus().map_err(|unfit| unfit.to_string())?;
    let cpus = choose_cpus(&choice, &allowed).map_err(|_| {
        let count = allowed.len();
        format!("the process may run on {count} CPUs: choose fewer cores, or CPUs among them")
    })?;
    Ok(ServeOptions {
        address: common.listen,
        cpus,
        service: common.service_time,
        seed: common.seed,
        kind,
    })
}

/// Rows and their size.
fn shape(arguments: &MysqlArgs) -> Result<AnswerShape, String> {
    let row_bytes = match (arguments.row_size, arguments.answer_size) {
        (Some(bytes), _) => bytes,
        (None, Some(all)) => all.clamp(1, ROW_BYTES_OF_LARGE),
        // That of sysbench's column `c`.
        (None, None) => 119,
    };
    let rows = match arguments.answer_size {
        Some(all) => all.div_ceil(row_bytes.max(1)),
        None => arguments.rows,
    };
    match usize::try_from(row_bytes) {
        Ok(row_bytes) if row_bytes <= ROW_BYTES_MAX => Ok(AnswerShape { rows, row_bytes }),
        _ => Err(format!("a row has at most {ROW_BYTES_MAX} bytes")),
    }
}

/// Bytes: a number, alone or with B, KiB, MiB or GiB.
fn size(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let scale = match unit {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let number: Option<u64> = number.parse().ok();
    let bytes = number
        .zip(scale)
        .and_then(|(number, scale)| number.checked_mul(scale));
    bytes.ok_or_else(|| "write a number of bytes, or one with KiB, MiB or GiB".to_owned())
}
