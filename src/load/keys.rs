//! Arguments of statements: constants, and keys drawn from a distribution.

use std::fmt;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

/// Where an argument comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// Always this whole number.
    Number(i64),
    /// Always this text.
    Text(String),
    /// `uniform(LOW,HIGH)`: each as likely as the other.
    Uniform {
        /// The least.
        low: i64,
        /// The greatest.
        high: i64,
    },
    /// `zipf(LOW,HIGH,EXPONENT)`: the lower, the likelier. The n-th is drawn with a weight of
    /// 1/n^EXPONENT; YCSB's exponent is 0.99.
    Zipf {
        /// The least, which is drawn most.
        low: i64,
        /// The greatest.
        high: i64,
        /// 0 and more; 0 is uniform.
        exponent: f64,
    },
    /// `sequence(FIRST)`: FIRST, and one more each time; cores and connections interleave, so that
    /// no number comes twice.
    Sequence {
        /// The first.
        first: i64,
    },
}

/// What is wrong with an argument's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadArgument(String);

/// The forms, for messages.
const FORMS: &str =
    "write a number, a text, uniform(LOW,HIGH), zipf(LOW,HIGH,EXPONENT) or sequence(FIRST)";

impl Argument {
    /// Reads one of the forms above; what looks like none of them is a constant.
    ///
    /// # Errors
    /// [`BadArgument`] for a form with other parameters than it takes.
    pub fn parse(text: &str) -> Result<Self, BadArgument> {
        let Some((name, rest)) = text.split_once('(') else {
            return Ok(match text.parse() {
                Ok(number) => Self::Number(number),
                Err(_) => Self::Text(text.to_owned()),
            });
        };
        let Some(inside) = rest.strip_suffix(')') else {
            return Ok(Self::Text(text.to_owned()));
        };
        let parts: Vec<&str> = inside.split(',').map(str::trim).collect();
        let whole = |at: usize| parts.get(at).and_then(|part| part.parse::<i64>().ok());
        let bad = || BadArgument(format!("`{text}` is none of the forms: {FORMS}"));
        let range = || match (whole(0), whole(1)) {
            (Some(low), Some(high)) if low <= high => Ok((low, high)),
            (Some(_), Some(_)) => Err(BadArgument(format!("`{text}` ends before it begins"))),
            _ => Err(bad()),
        };
        match (name, parts.len()) {
            ("uniform", 2) => range().map(|(low, high)| Self::Uniform { low, high }),
            ("zipf", 3) => {
                let (low, high) = range()?;
                let exponent = parts.get(2).and_then(|part| part.parse::<f64>().ok());
                let exponent = exponent.filter(|exponent| (0.0..=100.0).contains(exponent));
                Ok(Self::Zipf {
                    low,
                    high,
                    exponent: exponent.ok_or_else(bad)?,
                })
            }
            ("sequence", 1) => Ok(Self::Sequence {
                first: whole(0).ok_or_else(bad)?,
            }),
            ("uniform" | "zipf" | "sequence", _) => Err(bad()),
            _ => Ok(Self::Text(text.to_owned())),
        }
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
            Self::Uniform { low, high } => write!(f, "uniform({low},{high})"),
            Self::Zipf {
                low,
                high,
                exponent,
            } => write!(f, "zipf({low},{high},{exponent})"),
            Self::Sequence { first } => write!(f, "sequence({first})"),
        }
    }
}

/// A drawn argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drawn<'a> {
    /// A whole number.
    Number(i64),
    /// A text.
    Text(&'a str),
}

/// One connection's source of arguments.
pub struct Keys {
    random: SmallRng,
    sources: Vec<Source>,
}

enum Source {
    Number(i64),
    Text(String),
    Uniform { low: i64, span: u64 },
    Zipf { low: i64, zipf: Zipf<f64> },
    Sequence { next: i64, step: i64 },
}

impl Keys {
    /// A source for one of `of` connections, the `index`-th. The same seed and index give the same
    /// arguments.
    pub fn new<'a>(
        arguments: impl IntoIterator<Item = &'a Argument>,
        seed: u64,
        index: u32,
        of: u32,
    ) -> Self {
        // Neighbouring indices must not give neighbouring streams.
        let mut mixed = crate::base::prng::Prng::new(seed ^ (u64::from(index) << 32));
        let sources = arguments.into_iter().map(|argument| match argument {
            Argument::Number(number) => Source::Number(*number),
            Argument::Text(text) => Source::Text(text.clone()),
            Argument::Uniform { low, high } => Source::Uniform {
                low: *low,
                span: high.abs_diff(*low).saturating_add(1),
            },
            Argument::Zipf {
                low,
                high,
                exponent,
            } => {
                let count = high.abs_diff(*low).saturating_add(1);
                match Zipf::new(count as f64, *exponent) {
                    Ok(zipf) => Source::Zipf { low: *low, zipf },
                    Err(_) => Source::Number(*low),
                }
            }
            Argument::Sequence { first } => Source::Sequence {
                next: first.saturating_add(i64::from(index)),
                step: i64::from(of.max(1)),
            },
        });
        Self {
            sources: sources.collect(),
            random: SmallRng::seed_from_u64(mixed.next_u64()),
        }
    }

    /// How many arguments there are.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Draws the argument at `index`, counted from 0. Beyond the last it is 0.
    pub fn draw(&mut self, index: usize) -> Drawn<'_> {
        match self.sources.get_mut(index) {
            None => Drawn::Number(0),
            Some(Source::Number(number)) => Drawn::Number(*number),
            Some(Source::Text(text)) => Drawn::Text(text),
            Some(Source::Uniform { low, span }) => {
                use rand::Rng;
                let offset = self.random.random_range(0..*span);
                Drawn::Number(low.wrapping_add_unsigned(offset))
            }
            Some(Source::Zipf { low, zipf }) => {
                let rank = zipf.sample(&mut self.random);
                // Ranks begin at 1 and are whole numbers up to the count.
                Drawn::Number(low.wrapping_add(rank as i64 - 1))
            }
            Some(Source::Sequence { next, step }) => {
                let number = *next;
                *next = next.wrapping_add(*step);
                Drawn::Number(number)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_and_written_alike() {
        let check = |text: &str, expect: Argument| {
            assert_eq!(Argument::parse(text), Ok(expect.clone()));
            assert_eq!(expect.to_string(), text);
        };
        check("7", Argument::Number(7));
        check("seven", Argument::Text("seven".into()));
        check("f(x)", Argument::Text("f(x)".into()));
        check("uniform(1,10)", Argument::Uniform { low: 1, high: 10 });
        let zipf = Argument::Zipf {
            low: 1,
            high: 100,
            exponent: 0.99,
        };
        check("zipf(1,100,0.99)", zipf);
        check("sequence(5)", Argument::Sequence { first: 5 });
        for wrong in [
            "uniform(1)",
            "uniform(2,1)",
            "zipf(1,2,x)",
            "zipf(1,2,-1)",
            "sequence(a)",
        ] {
            assert!(Argument::parse(wrong).is_err(), "{wrong}");
        }
    }

    fn numbers(argument: &str, index: u32, of: u32, count: usize) -> Vec<i64> {
        let argument = Argument::parse(argument).unwrap();
        let mut keys = Keys::new([&argument], 42, index, of);
        (0..count)
            .map(|_| match keys.draw(0) {
                Drawn::Number(number) => number,
                Drawn::Text(text) => panic!("{text}"),
            })
            .collect()
    }

    #[test]
    fn sequences_of_all_connections_together_are_without_gap_or_repetition() {
        let mut all: Vec<i64> = (0..3)
            .flat_map(|index| numbers("sequence(10)", index, 3, 4))
            .collect();
        all.sort_unstable();
        assert_eq!(all, (10..22).collect::<Vec<_>>());
    }

    #[test]
    fn keys_keep_their_range_and_zipf_its_weights() {
        let uniform = numbers("uniform(-3,3)", 0, 1, 7_000);
        for key in -3..=3 {
            let count = uniform.iter().filter(|n| **n == key).count();
            assert!((800..1_200).contains(&count), "{key}: {count} of 1,000");
        }
        let draws = 100_000;
        let zipf = numbers("zipf(1,1000,0.99)", 0, 1, draws);
        assert!(zipf.iter().all(|key| (1..=1000).contains(key)));
        let harmonic: f64 = (1..=1000).map(|n| f64::from(n).powf(-0.99)).sum();
        for key in [1_i64, 2, 10] {
            let expected = draws as f64 * (key as f64).powf(-0.99) / harmonic;
            let found = zipf.iter().filter(|n| **n == key).count() as f64;
            assert!(
                (found / expected - 1.0).abs() < 0.15,
                "{key}: {found} {expected}"
            );
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_keys_and_another_connection_others() {
        let of = |index| numbers("uniform(1,1000000)", index, 2, 20);
        assert_eq!(of(0), of(0));
        assert_ne!(of(0), of(1));
    }
}
