//! What a core has seen of one group in one stretch since its last report.

use super::histogram::Latencies;

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made.
    Dial,
    /// The login failed.
    Login,
    /// Refused for want of room or readiness: MySQL 1040, 1053, 1203, 1226, 3168; HTTP 429, 503.
    Refused,
    /// Another error of the server's: an ERR packet, an HTTP status of 400 and more.
    Server,
    /// The connection ended or was reset before the answer was complete.
    Reset,
    /// The peer broke the protocol.
    Protocol,
    /// No complete answer in time.
    Timeout,
}

impl Failure {
    /// Every class.
    pub const ALL: [Self; 7] = [
        Self::Dial,
        Self::Login,
        Self::Refused,
        Self::Server,
        Self::Reset,
        Self::Protocol,
        Self::Timeout,
    ];

    /// The name in results.
    pub fn label(self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::Login => "login",
            Self::Refused => "refused",
            Self::Server => "server",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Timeout => "timeout",
        }
    }

    /// The class of a MySQL error number.
    pub fn of_errno(errno: u16) -> Self {
        match errno {
            1040 | 1053 | 1203 | 1226 | 3168 => Self::Refused,
            _ => Self::Server,
        }
    }

    /// The class of an HTTP status; `None` below 400.
    pub fn of_status(status: u16) -> Option<Self> {
        match status {
            429 | 503 => Some(Self::Refused),
            400.. => Some(Self::Server),
            _ => None,
        }
    }
}

/// Counts and latencies of one group.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Operations whose intended start came.
    pub planned: u64,
    /// Operations sent.
    pub sent: u64,
    /// Operations answered without an error, whenever that was.
    pub completed: u64,
    /// Operations answered without an error within the stretch, whenever they were due: what a rate is counted from.
    pub in_window: u64,
    /// Operations that waited for a connection at the stretch's end.
    pub backlog: u64,
    /// Operations that were taken back, as no connection had been free for them when their step ended.
    pub withdrawn: u64,
    /// Connections that could not be opened anew.
    pub reconnects_failed: u64,
    /// Answers that were not what was expected.
    pub wrong: u64,
    /// Failures, in the order of [`Failure::ALL`].
    pub failures: [u64; Failure::ALL.len()],
    /// Bytes of answers.
    pub received: u64,
    /// Actual send after the intended one.
    pub send_lag: Latencies,
    /// Actual send after the moment when it was due and a connection was free: the generator's own
    /// fault.
    pub own_lag: Latencies,
    /// Actual send to the last byte.
    pub service: Latencies,
    /// Intended send to the last byte.
    pub response: Latencies,
    /// Actual send to the first byte.
    pub first_byte: Latencies,
}

impl Record {
    /// Counts a failure.
    pub fn fail(&mut self, failure: Failure) {
        let at = Failure::ALL.iter().position(|class| *class == failure);
        if let Some(count) = at.and_then(|at| self.failures.get_mut(at)) {
            *count += 1;
        }
    }

    /// Failures of all classes.
    pub fn failed(&self) -> u64 {
        self.failures.iter().sum()
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.planned += other.planned;
        self.sent += other.sent;
        self.completed += other.completed;
        self.in_window += other.in_window;
        self.backlog += other.backlog;
        self.withdrawn += other.withdrawn;
        self.reconnects_failed += other.reconnects_failed;
        self.wrong += other.wrong;
        for (mine, theirs) in self.failures.iter_mut().zip(other.failures) {
            *mine += theirs;
        }
        self.received += other.received;
        self.send_lag.merge(&other.send_lag);
        self.own_lag.merge(&other.own_lag);
        self.service.merge(&other.service);
        self.response.merge(&other.response);
        self.first_byte.merge(&other.first_byte);
    }

    /// Forgets everything, keeping its memory.
    pub fn clear(&mut self) {
        let empty = |latencies: &mut Latencies| {
            // An empty one needs no 250 KB of zeroes written.
            if latencies.count() > 0 {
                latencies.clear();
            }
        };
        (self.planned, self.sent, self.completed) = (0, 0, 0);
        (self.in_window, self.backlog) = (0, 0);
        (self.withdrawn, self.reconnects_failed) = (0, 0);
        (self.wrong, self.received) = (0, 0);
        self.failures = Default::default();
        for latencies in [
            &mut self.send_lag,
            &mut self.own_lag,
            &mut self.service,
            &mut self.response,
            &mut self.first_byte,
        ] {
            empty(latencies);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_records_count_both() {
        let mut total = Record::default();
        for failure in Failure::ALL {
            let mut record = Record {
                planned: 2,
                ..Record::default()
            };
            record.fail(failure);
            record.response.record(5);
            total.merge(&record);
        }
        assert_eq!(
            (total.planned, total.failed(), total.response.count()),
            (14, 7, 7)
        );
        assert_eq!(total.failures, [1; 7]);
        total.clear();
        assert_eq!(
            (total.planned, total.failed(), total.response.count()),
            (0, 0, 0)
        );
    }

    #[test]
    fn errors_are_told_apart_by_what_a_caller_should_do() {
        for (errno, expect) in [(1040, Failure::Refused), (1146, Failure::Server)] {
            assert_eq!(Failure::of_errno(errno), expect);
        }
        for (status, expect) in [
            (200, None),
            (404, Some(Failure::Server)),
            (503, Some(Failure::Refused)),
        ] {
            assert_eq!(Failure::of_status(status), expect);
        }
    }
}
