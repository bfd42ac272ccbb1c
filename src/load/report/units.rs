//! Numbers as a reader wants them: three digits that matter, a unit, thousands apart.

/// Nanoseconds, in the unit that leaves one to three digits before the point.
pub fn duration(nanos: f64) -> String {
    let (value, unit) = match nanos.abs() {
        n if n >= 0.9995e9 => (nanos / 1e9, "s"),
        n if n >= 0.9995e6 => (nanos / 1e6, "ms"),
        n if n >= 0.9995e3 => (nanos / 1e3, "µs"),
        _ => (nanos, "ns"),
    };
    format!("{} {unit}", three_digits(value))
}

/// [`duration`] of a round number, for an axis: without zeros behind the point.
pub fn tick(nanos: f64) -> String {
    let words = duration(nanos);
    match words.split_once(' ') {
        Some((number, unit)) => format!("{} {unit}", trim_zeros(number)),
        None => words,
    }
}

/// [`duration`] with its sign.
pub fn added_duration(nanos: f64) -> String {
    let sign = if nanos < 0.0 { "−" } else { "+" };
    format!("{sign}{}", duration(nanos.abs()))
}

/// Operations per second.
pub fn rate(per_second: f64) -> String {
    match per_second {
        r if r >= 100.0 => format!("{}/s", thousands(r.round() as u64)),
        r => format!("{}/s", three_digits(r)),
    }
}

/// Operations per second in the fewest letters, for an axis.
pub fn short_rate(per_second: f64) -> String {
    match per_second {
        r if r >= 0.9995e6 => format!("{}M", trimmed(r / 1e6)),
        r if r >= 0.9995e3 => format!("{}k", trimmed(r / 1e3)),
        r => trimmed(r),
    }
}

/// Bytes from KiB.
pub fn memory(kib: f64) -> String {
    match kib.abs() {
        k if k >= 1024.0 * 1024.0 => format!("{} GiB", three_digits(kib / 1024.0 / 1024.0)),
        k if k >= 1024.0 => format!("{} MiB", three_digits(kib / 1024.0)),
        k if k >= 1.0 || k == 0.0 => format!("{} KiB", three_digits(kib)),
        _ => format!("{} B", three_digits(kib * 1024.0)),
    }
}

/// A ratio as the change it is: `+3.1 %`, `−12 %`.
pub fn change(ratio: f64) -> String {
    let percent = (ratio - 1.0) * 100.0;
    let sign = if percent < 0.0 { "−" } else { "+" };
    match percent.abs() {
        p if p < 0.05 => "±0.0 %".to_owned(),
        p if p >= 99.95 => format!("{sign}{p:.0} %"),
        p => format!("{sign}{p:.1} %"),
    }
}

/// A share as a percentage of at most `digits` decimals.
pub fn percent(share: f64, digits: usize) -> String {
    format!("{} %", trim_zeros(&format!("{:.digits$}", share * 100.0)))
}

/// Digits in groups of three.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Three significant digits; all digits of what is a thousand or more.
pub fn three_digits(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.2}"),
    }
}

fn trimmed(value: f64) -> String {
    trim_zeros(&three_digits(value))
}

fn trim_zeros(text: &str) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        let check = |found: String, expect: &str| assert_eq!(found, expect);
        check(duration(0.0), "0 ns");
        check(duration(999.4), "999 ns");
        check(duration(999.6), "1.00 µs");
        check(duration(12_345.0), "12.3 µs");
        check(duration(1_230_000.0), "1.23 ms");
        check(duration(2e9), "2.00 s");
        check(added_duration(-1500.0), "−1.50 µs");
        check(rate(12_345.6), "12,346/s");
        check(rate(0.5), "0.50/s");
        check(short_rate(10_000.0), "10k");
        check(short_rate(2_500_000.0), "2.5M");
        check(short_rate(0.0), "0");
        check(memory(0.5), "512 B");
        check(memory(2.36), "2.36 KiB");
        check(memory(4096.0), "4.00 MiB");
        check(change(1.031), "+3.1 %");
        check(change(0.5), "−50.0 %");
        check(change(0.9999), "±0.0 %");
        check(tick(2e6), "2 ms");
        check(tick(500.0), "500 ns");
        check(change(3.0), "+200 %");
        check(percent(0.999, 2), "99.9 %");
        check(thousands(1_234_567), "1,234,567");
        check(thousands(12), "12");
    }
}
