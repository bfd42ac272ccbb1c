//! What follows a run while it goes on: the series, its files, and a live view or lines.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use super::{Common, print};
use crate::load::dashboard::{Dashboard, Meter};
use crate::load::files::{Files, WriteError};
use crate::load::live;
use crate::load::run::{Progress, choose_cpus};
use crate::load::scenario::Scenario;
use crate::load::screen::{self, Screen};
use crate::load::series::{Series, Tick};

/// Where a person sees the run.
pub(super) enum View {
    Nowhere,
    Lines,
    Screen(Box<Meter>, Screen),
}

/// Follows one run.
pub(super) struct Watch {
    series: Series,
    sink: Sink,
}

struct Sink {
    view: View,
    files: Option<Files>,
    unwritten: Option<WriteError>,
}

impl Watch {
    /// Opens the files, and the view last. `cpus` are those that were asked for.
    pub(super) fn open(
        scenario: &Scenario,
        common: &Common,
        cpus: &[usize],
        began: SystemTime,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self, WriteError> {
        let names = || scenario.groups.iter().map(|group| group.name.clone());
        let open = |directory: &Path| Files::create(directory, names().collect(), began);
        let files = common.out.as_deref().map(open).transpose()?;
        let cores = match cpus.len() {
            0 => scenario.cores,
            given => given,
        };
        let sink = Sink {
            view: View::open(scenario, common, cpus, stop),
            files,
            unwritten: None,
        };
        Ok(Self {
            series: Series::new(cores, scenario.groups.len()),
            sink,
        })
    }

    /// Takes a core's report.
    pub(super) fn take(&mut self, progress: &Progress<'_>) {
        for tick in self.series.add(progress) {
            self.sink.show(&tick);
        }
    }

    /// Takes the intervals that were never complete. The view is given back as it is: whoever drops it
    /// waits for the terminal, and files need not.
    ///
    /// The files come with the last interval that could not be written.
    pub(super) fn end(mut self) -> (View, Result<Option<Files>, WriteError>) {
        self.series.rest().for_each(|tick| self.sink.show(&tick));
        let files = match self.sink.unwritten {
            Some(error) => Err(error),
            None => Ok(self.sink.files),
        };
        (self.sink.view, files)
    }
}

impl View {
    fn open(scenario: &Scenario, common: &Common, cpus: &[usize], stop: &Arc<AtomicBool>) -> Self {
        let speaks_json = common.json.as_deref() == Some(Path::new("-"));
        if common.quiet || speaks_json {
            return Self::Nowhere;
        }
        if common.plain || !screen::is_there() {
            return Self::Lines;
        }
        // CPUs that cannot be had are the run's own error.
        let cpus = choose_cpus(cpus, scenario.cores).unwrap_or_default();
        let dashboard = Dashboard::new(scenario, &common.system, screen::wants_colour());
        match Screen::open(dashboard, Arc::clone(stop), &cpus) {
            Ok(screen) => Self::Screen(Box::new(Meter::new(scenario)), screen),
            Err(_) => Self::Lines,
        }
    }
}

impl Sink {
    fn show(&mut self, tick: &Tick) {
        match &mut self.view {
            View::Nowhere => {}
            View::Lines => print(&(live::line(tick) + "\n")),
            View::Screen(meter, screen) => screen.show(meter.sample(tick)),
        }
        if let Some(files) = &mut self.files
            && let Err(error) = files.tick(tick)
        {
            self.unwritten = Some(error);
        }
    }
}
