//! Dates and times as text, as MySQL prints them: the few functions SQLite lacks.

use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time of the proleptic Gregorian calendar, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Days since 1970-01-01.
    pub days: i64,
    /// Microseconds of the day.
    pub micros: i64,
}

const MICROS_OF_DAY: i64 = 86_400_000_000;

impl Moment {
    /// The system clock's time.
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self::from_micros(i64::try_from(since.as_micros()).unwrap_or(0))
    }

    /// From microseconds since 1970.
    pub fn from_micros(micros: i64) -> Self {
        Self {
            days: micros.div_euclid(MICROS_OF_DAY),
            micros: micros.rem_euclid(MICROS_OF_DAY),
        }
    }

    /// Microseconds since 1970.
    pub fn to_micros(self) -> i64 {
        self.days
            .saturating_mul(MICROS_OF_DAY)
            .saturating_add(self.micros)
    }

    /// Reads `YYYY-MM-DD[ HH:MM[:SS[.ffffff]]]`, also with `T`.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, clock) = text
            .trim()
            .split_once([' ', 'T'])
            .unwrap_or((text.trim(), ""));
        let mut parts = date.split('-').map(str::parse::<i64>);
        let (year, month, day) = (
            parts.next()?.ok()?,
            parts.next()?.ok()?,
            parts.next()?.ok()?,
        );
        if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        Some(Self {
            days: days_from_civil(year, month, day),
            micros: parse_clock(clock)?,
        })
    }

    /// Year, month, day.
    pub fn civil(self) -> (i64, i64, i64) {
        civil_from_days(self.days)
    }

    /// Hour, minute, second.
    pub fn clock(self) -> (i64, i64, i64) {
        let seconds = self.micros / 1_000_000;
        (seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    /// `YYYY-MM-DD HH:MM:SS` and up to six digits of a fraction.
    pub fn text(self, digits: usize) -> String {
        let (year, month, day) = self.civil();
        let (hour, minute, second) = self.clock();
        let fraction = format!("{:06}", self.micros % 1_000_000);
        let fraction = match fraction.get(..digits.min(6)) {
            Some(some) if !some.is_empty() => format!(".{some}"),
            _ => String::new(),
        };
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction}")
    }

    /// Moves by `amount` of `unit` (MySQL's `INTERVAL` words).
    pub fn add(self, amount: i64, unit: &str) -> Option<Self> {
        let micros = match unit {
            "MICROSECOND" => 1,
            "SECOND" => 1_000_000,
            "MINUTE" => 60_000_000,
            "HOUR" => 3_600_000_000,
            "DAY" => MICROS_OF_DAY,
            "WEEK" => 7 * MICROS_OF_DAY,
            "MONTH" => return self.add_months(amount),
            "QUARTER" => return self.add_months(amount.checked_mul(3)?),
            "YEAR" => return self.add_months(amount.checked_mul(12)?),
            _ => return None,
        };
        Some(Self::from_micros(
            self.to_micros().checked_add(amount.checked_mul(micros)?)?,
        ))
    }

    fn add_months(self, amount: i64) -> Option<Self> {
        let (year, month, day) = self.civil();
        let months = year
            .checked_mul(12)?
            .checked_add(month - 1)?
            .checked_add(amount)?;
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        let next = days_from_civil(year + month / 12, month % 12 + 1, 1);
        let first = days_from_civil(year, month, 1);
        Some(Self {
            days: first + (day - 1).min(next - first - 1),
            micros: self.micros,
        })
    }

    /// `DATE_FORMAT`.
    pub fn format(self, pattern: &str) -> String {
        let (year, month, day) = self.civil();
        let (hour, minute, second) = self.clock();
        let twelve = (hour + 11) % 12 + 1;
        let mut out = String::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            out += &match chars.next() {
                Some('Y') => format!("{year:04}"),
                Some('y') => format!("{:02}", year % 100),
                Some('m') => format!("{month:02}"),
                Some('c') => month.to_string(),
                Some('d') => format!("{day:02}"),
                Some('e') => day.to_string(),
                Some('H') => format!("{hour:02}"),
                Some('k') => hour.to_string(),
                Some('h' | 'I') => format!("{twelve:02}"),
                Some('i') => format!("{minute:02}"),
                Some('s' | 'S') => format!("{second:02}"),
                Some('f') => format!("{:06}", self.micros % 1_000_000),
                Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
                Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
                Some('j') => format!("{:03}", self.days - days_from_civil(year, 1, 1) + 1),
                Some('M') => name(&MONTHS, month - 1, 9),
                Some('b') => name(&MONTHS, month - 1, 3),
                Some('W') => name(&WEEKDAYS, (self.days + 3).rem_euclid(7), 9),
                Some('a') => name(&WEEKDAYS, (self.days + 3).rem_euclid(7), 3),
                Some(other) => other.to_string(),
                None => String::new(),
            };
        }
        out
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

fn name(names: &[&str], index: i64, length: usize) -> String {
    let full = usize::try_from(index)
        .ok()
        .and_then(|index| names.get(index))
        .copied()
        .unwrap_or_default();
    full.chars().take(length).collect()
}

/// `HH:MM[:SS[.ffffff]]` as microseconds of the day; empty text is midnight.
fn parse_clock(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut seconds = 0;
    let mut count = 0;
    for part in clock.split(':') {
        let part: i64 = part.parse().ok()?;
        seconds = seconds * 60 + part;
        count += 1;
    }
    if count == 2 {
        seconds *= 60;
    }
    let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let micros = seconds * 1_000_000 + digits.parse::<i64>().ok()?;
    ((2..=3).contains(&count) && micros < MICROS_OF_DAY).then_some(micros)
}

/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let years = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * years + years / 4 - years / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (years + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_moved_and_printed() {
        let check = |text: &str, amount: i64, unit: &str, expect: &str| {
            let moment = Moment::parse(text).unwrap().add(amount, unit).unwrap();
            assert_eq!(moment.text(0), expect, "{text} + {amount} {unit}");
        };
        check("2024-02-28", 1, "DAY", "2024-02-29 00:00:00");
        check("2024-01-31 10:20:30", 1, "MONTH", "2024-02-29 10:20:30");
        check("2023-12-31 23:59:59", 1, "SECOND", "2024-01-01 00:00:00");
        check("2024-03-31", -1, "QUARTER", "2023-12-31 00:00:00");
        check("2024-02-29", 1, "YEAR", "2025-02-28 00:00:00");
        check("1969-12-31 23:00", 2, "HOUR", "1970-01-01 01:00:00");
        let moment = Moment::parse("2024-07-04T15:06:07.5").unwrap();
        assert_eq!(moment.text(3), "2024-07-04 15:06:07.500");
        assert_eq!(
            moment.format("%W %M %e %Y %h:%i %p %%"),
            "Thursday July 4 2024 03:06 PM %"
        );
        for bad in ["", "x", "2024-13-01", "2024-01-01 25:00:00", "2024-01"] {
            assert_eq!(Moment::parse(bad), None, "{bad}");
        }
    }
}
