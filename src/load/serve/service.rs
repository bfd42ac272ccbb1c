//! How long a null server pretends to work: a distribution, and drawing from it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::base::prng::Prng;

/// The longest time drawn: a tail without end would keep a connection busy for hours.
const LONGEST: Duration = Duration::from_secs(60);

/// The distribution of service times.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ServiceTime {
    /// Answers at once.
    #[default]
    None,
    /// Always the same.
    Constant(Duration),
    /// Exponential, with this mean.
    Exponential(Duration),
    /// Log-normal: this median, and the standard deviation of the logarithm.
    LogNormal(Duration, f64),
}

impl ServiceTime {
    /// A service time; at most a minute.
    pub fn draw(&self, prng: &mut Prng) -> Duration {
        let drawn = match *self {
            Self::None => return Duration::ZERO,
            Self::Constant(time) => time.as_secs_f64(),
            Self::Exponential(mean) => -mean.as_secs_f64() * unit(prng).ln(),
            Self::LogNormal(median, sigma) => median.as_secs_f64() * (sigma * normal(prng)).exp(),
        };
        Duration::try_from_secs_f64(drawn).map_or(LONGEST, |drawn| drawn.min(LONGEST))
    }
}

/// Uniform in (0, 1]: never 0, of which there is no logarithm.
fn unit(prng: &mut Prng) -> f64 {
    // The 53 bits that a double holds.
    ((prng.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// Standard normal (Box and Muller, 1958).
fn normal(prng: &mut Prng) -> f64 {
    let radius = (-2.0 * unit(prng).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(prng)).cos()
}

/// A text that is no service time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no service time: write none, constant:100us, exponential:200us (the mean) or \
     lognormal:200us,0.5 (the median and sigma)"
)]
pub struct BadServiceTime(String);

impl FromStr for ServiceTime {
    type Err = BadServiceTime;

    fn from_str(text: &str) -> Result<Self, BadServiceTime> {
        let bad = || BadServiceTime(text.to_owned());
        if text == "none" {
            return Ok(Self::None);
        }
        let (kind, rest) = text.split_once(':').ok_or_else(bad)?;
        let parsed = match kind {
            "constant" => duration(rest).map(Self::Constant),
            "exponential" => duration(rest).map(Self::Exponential),
            "lognormal" => rest.split_once(',').and_then(|(median, sigma)| {
                let sigma = sigma.trim().parse().ok()?;
                let is_sane = (0.0..=4.0).contains(&sigma);
                is_sane.then_some(Self::LogNormal(duration(median)?, sigma))
            }),
            _ => None,
        };
        parsed.ok_or_else(bad)
    }
}

/// `150us`, `1.5ms`, `2s`: at most [`LONGEST`].
fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let scale = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let duration = Duration::try_from_secs_f64(number * scale).ok()?;
    (duration <= LONGEST).then_some(duration)
}

impl fmt::Display for ServiceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Constant(time) => write!(f, "constant:{time:?}"),
            Self::Exponential(mean) => write!(f, "exponential:{mean:?}"),
            Self::LogNormal(median, sigma) => write!(f, "lognormal:{median:?},{sigma}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_times_are_read_and_others_refused() {
        #[track_caller]
        fn check(text: &str, expect: Option<ServiceTime>) {
            assert_eq!(text.parse().ok(), expect, "{text}");
        }
        let us = Duration::from_micros;
        check("none", Some(ServiceTime::None));
        check("constant:100us", Some(ServiceTime::Constant(us(100))));
        check(
            "exponential:1.5ms",
            Some(ServiceTime::Exponential(us(1_500))),
        );
        check(
            "lognormal:2s,0.5",
            Some(ServiceTime::LogNormal(us(2_000_000), 0.5)),
        );
        check(
            "lognormal:200us, 0",
            Some(ServiceTime::LogNormal(us(200), 0.0)),
        );
        for bad in
            "|constant|constant:|constant:5|constant:-1us|constant:61s|constant:nanus|uniform:1us|\
                    lognormal:1us|lognormal:1us,5|lognormal:1us,x|exponential:1h"
                .split('|')
        {
            check(bad, None);
        }
    }

    /// The mean and quantiles of many draws, in microseconds. The generator is seeded: the same
    /// figures each time.
    fn drawn(service: ServiceTime) -> (f64, impl Fn(f64) -> f64) {
        const COUNT: usize = 100_000;
        let mut prng = Prng::new(42);
        let mut draws: Vec<f64> = (0..COUNT)
            .map(|_| service.draw(&mut prng).as_secs_f64() * 1e6)
            .collect();
        draws.sort_by(f64::total_cmp);
        let mean = draws.iter().sum::<f64>() / COUNT as f64;
        (mean, move |q| draws[(q * (COUNT - 1) as f64) as usize])
    }

    #[track_caller]
    fn close(got: f64, expect: f64) {
        assert!((got - expect).abs() < expect * 0.03, "{got}, not {expect}");
    }

    #[test]
    fn draws_follow_their_distributions() {
        let time = Duration::from_micros(200);
        let (mean, quantile) = drawn(ServiceTime::Constant(time));
        close(mean, 200.0);
        close(quantile(0.0), quantile(1.0));
        let (mean, quantile) = drawn(ServiceTime::Exponential(time));
        close(mean, 200.0);
        close(quantile(0.5), 200.0 * 2_f64.ln());
        close(quantile(0.99), 200.0 * 100_f64.ln());
        let (mean, quantile) = drawn(ServiceTime::LogNormal(time, 0.5));
        close(mean, 200.0 * 0.125_f64.exp());
        close(quantile(0.5), 200.0);
        close(quantile(0.9), 200.0 * (0.5 * 1.281_6_f64).exp());
        assert_eq!(ServiceTime::None.draw(&mut Prng::new(1)), Duration::ZERO);
        let mut prng = Prng::new(1);
        let long = ServiceTime::LogNormal(LONGEST, 4.0);
        assert!((0..1000).all(|_| long.draw(&mut prng) <= LONGEST));
    }
}
