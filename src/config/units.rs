//! Values with units: durations, sizes, lists of CPUs, addresses.

use std::time::Duration;

const DURATION_UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// The highest CPU number accepted; beyond what Linux is built for.
const CPU_MAX: u16 = 8191;

/// `"250ms"`, `"5s"`, `"10m"`, `"8h"`, `"7d"`. The error says what to write.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let example = "write a whole number and a unit: \"250ms\", \"5s\", \"10m\", \"8h\" or \"7d\"";
    parse_with_unit(text, DURATION_UNITS, example).map(Duration::from_millis)
}

/// `"512B"`, `"64KiB"`, `"1MiB"`. The error says what to write.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    if let Some(number) = text.strip_suffix("KB").or(text.strip_suffix("kB")) {
        return Err(format!("write \"{number}KiB\" for multiples of 1024"));
    }
    parse_with_unit(
        text,
        SIZE_UNITS,
        "write a whole number and a unit: \"512B\", \"64KiB\" or \"1MiB\"",
    )
}

fn parse_with_unit(text: &str, units: &[(&str, u64)], example: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    if number.is_empty() {
        return Err(example.to_owned());
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(example.to_owned());
    };
    let number = number.parse::<u64>().ok();
    number
        .and_then(|n| n.checked_mul(*factor))
        .ok_or_else(|| "the number is too large".to_owned())
}

/// A duration in the largest unit that divides it.
pub(crate) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show_with_unit(millis, DURATION_UNITS, "s")
}

/// A size in the largest unit that divides it.
pub(crate) fn show_size(bytes: u64) -> String {
    show_with_unit(bytes, SIZE_UNITS, "B")
}

fn show_with_unit(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    if value == 0 {
        return format!("0{zero}");
    }
    let fits = units
        .iter()
        .rev()
        .find(|(_, factor)| value.is_multiple_of(*factor));
    fits.map_or_else(
        || value.to_string(),
        |(unit, factor)| format!("{}{unit}", value / factor),
    )
}

/// `"0-3,6"` as ascending CPU numbers. The error says what to write.
pub(crate) fn parse_cpus(text: &str) -> Result<Vec<u16>, String> {
    let example = "write CPU numbers and ranges: \"0-3,6\"";
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| example.to_owned());
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err(format!("the range {first}-{last} runs backwards"));
        }
        if last > CPU_MAX {
            return Err(format!("CPU numbers end at {CPU_MAX}"));
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    if let Some(twice) = cpus
        .windows(2)
        .find_map(|w| (w.first() == w.last()).then(|| w.first()))
    {
        return Err(format!(
            "CPU {} is named twice",
            twice.copied().unwrap_or_default()
        ));
    }
    Ok(cpus)
}

/// `host:port` of an endpoint: a host name, an IPv4 address, or an IPv6 address in brackets.
pub(crate) fn parse_host_port(text: &str) -> Result<(String, u16), String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("add the port: \"{text}:3306\""));
    };
    let Some(port) = port.parse::<u16>().ok().filter(|port| *port > 0) else {
        return Err("the port is a number from 1 to 65535".to_owned());
    };
    let host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(inner) => {
            let v6 = inner.parse::<std::net::Ipv6Addr>();
            v6.map_err(|_| "between brackets stands an IPv6 address".to_owned())?
                .to_string()
        }
        None => checked_host(host)?,
    };
    Ok((host, port))
}

fn checked_host(host: &str) -> Result<String, String> {
    if host.contains(':') {
        return Err(format!(
            "put an IPv6 address in brackets: \"[{host}]:3306\""
        ));
    }
    let looks_like_v4 = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    if looks_like_v4 && host.parse::<std::net::Ipv4Addr>().is_err() {
        return Err("this is neither an IPv4 address nor a host name".to_owned());
    }
    let label_is_fine = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > 253 || !name.split('.').all(label_is_fine) {
        return Err("a host name has letters, digits, '-', '_' and dots between labels".to_owned());
    }
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(
                parse_duration(text).ok(),
                expect.map(Duration::from_millis),
                "{text}"
            );
        };
        check("250ms", Some(250));
        check("0s", Some(0));
        check("5s", Some(5_000));
        check("8h", Some(28_800_000));
        check("2d", Some(172_800_000));
        for bad in [
            "", "5", "s", "-5s", "+5s", "1.5s", "5 s", "5S", "NaN", "5s5s", "٣s",
        ] {
            check(bad, None);
        }
        check("99999999999999999999s", None);
        check("18446744073709551615d", None);
    }

    #[test]
    fn sizes() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(parse_size(text).ok(), expect, "{text}");
        };
        check("64KiB", Some(65_536));
        check("0B", Some(0));
        check("2GiB", Some(2 << 30));
        for bad in ["64KB", "64", "64kib", "KiB", "17179869184GiB"] {
            check(bad, None);
        }
        assert!(parse_size("64KB").unwrap_err().contains("64KiB"));
    }

    #[test]
    fn shown_values_parse_to_themselves() {
        for text in ["0s", "250ms", "90s", "1m", "8h", "7d", "1001ms"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
        for text in ["0B", "1B", "64KiB", "1MiB", "1025B"] {
            assert_eq!(show_size(parse_size(text).unwrap()), text);
        }
    }

    #[test]
    fn cpus() {
        let check = |text: &str, expect: Option<&[u16]>| {
            assert_eq!(parse_cpus(text).ok().as_deref(), expect, "{text}");
        };
        check("0", Some(&[0]));
        check("6, 0-3", Some(&[0, 1, 2, 3, 6]));
        for bad in [
            "", "a", "3-1", "0,0", "0-2,1", "1-", "-1", "99999", "0-8192",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn endpoint_addresses() {
        let check = |text: &str, expect: Option<(&str, u16)>| {
            let expect = expect.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(parse_host_port(text).ok(), expect, "{text}");
        };
        check("db1.example:3306", Some(("db1.example", 3306)));
        check("10.0.0.1:1", Some(("10.0.0.1", 1)));
        check("[::1]:3307", Some(("::1", 3307)));
        for bad in [
            "db1",
            "db1:",
            "db1:0",
            "db1:65536",
            "::1:3306",
            "[::1]",
            "[db]:1",
            ":1",
        ] {
            check(bad, None);
        }
        for bad in [
            "1.2.3:1",
            "300.1.1.1:1",
            "a b:1",
            "-a:1",
            "a..b:1",
            "http://db:1",
        ] {
            check(bad, None);
        }
    }
}
