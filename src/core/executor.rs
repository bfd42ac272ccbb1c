//! One pinned executor thread, whatever runs on it: the gateway's cores, the load harness's.
//!
//! A thread started here ends in one way: its `ended` is told, whatever happens inside.

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};

use crate::core::preflight::executor_hint;

/// Memory glommio sets aside for file I/O, its least: sockets are not its business here.
const FILE_MEMORY: usize = 64 * 1024;

/// Starts a thread called `name`, pinned to `cpu`, that runs the future of `main` on an executor of
/// its own. `main` itself is called on that thread, inside the executor; what it makes (a
/// [`crate::net::Net`], for one) need not be `Send`.
///
/// `ended` is told once, on the same thread, how the future ended: its own value, or a sentence for
/// the log when there was no executor or the future panicked. Tasks are not included: what
/// [`crate::net::spawn`] starts contains its panics itself.
///
/// # Errors
/// When the thread cannot be made; `ended` is then never told.
pub fn spawn_pinned<M, F, E>(
    name: String,
    cpu: usize,
    main: M,
    ended: E,
) -> io::Result<JoinHandle<()>>
where
    M: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<(), String>> + 'static,
    E: FnOnce(Result<(), String>) + Send + 'static,
{
    std::thread::Builder::new()
        .name(name.clone())
        .spawn(move || ended(live(&name, cpu, main)))
}

fn live<F>(name: &str, cpu: usize, main: impl FnOnce() -> F) -> Result<(), String>
where
    F: Future<Output = Result<(), String>> + 'static,
{
    // What a panic leaves behind on this thread is never used again.
    let executor = match catch_unwind(|| make_executor(name, cpu)) {
        Ok(Ok(executor)) => executor,
        Ok(Err(error)) => return Err(format!("no executor ({error}): {}", executor_hint())),
        Err(panic) => {
            return Err(format!(
                "no executor ({}): {}",
                say(&*panic),
                executor_hint()
            ));
        }
    };
    catch_unwind(AssertUnwindSafe(|| {
        executor.run(async move { main().await })
    }))
    .unwrap_or_else(|panic| Err(say(&*panic)))
}

fn make_executor(name: &str, cpu: usize) -> glommio::Result<LocalExecutor, ()> {
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(name)
        .io_memory(FILE_MEMORY)
        // Its thread for blocking work may run anywhere else.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
}

thread_local! {
    static PANICKED_AT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Makes panics one log line with the place, without the payload: it may quote what a client sent.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        crate::log!(Error, "panic", thread = name, place = place);
        // During the thread's very end the place is lost, which only shortens a message.
        let _gone = PANICKED_AT.try_with(|at| at.replace(place));
    }));
}

/// A panic at the root of a thread, for the log.
fn say(payload: &(dyn Any + Send)) -> String {
    let at = PANICKED_AT.with(RefCell::take);
    if !at.is_empty() {
        return format!("panicked at {at}");
    }
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn ended(main: impl FnOnce() -> Result<(), String> + Send + 'static) -> Result<(), String> {
        let (tell, told) = mpsc::channel();
        let ended = move |ended| tell.send(ended).unwrap();
        let body = move || async move { main() };
        let thread = spawn_pinned("test".into(), first_cpu(), body, ended).unwrap();
        thread.join().unwrap();
        told.recv().unwrap()
    }

    fn first_cpu() -> usize {
        crate::core::preflight::allowed_cpus().unwrap()[0]
    }

    #[test]
    fn however_a_thread_ends_its_owner_is_told() {
        assert_eq!(ended(|| Ok(())), Ok(()));
        assert_eq!(ended(|| Err("no ring".into())), Err("no ring".into()));
        let panicked = ended(|| panic!("on purpose")).unwrap_err();
        assert!(panicked.starts_with("panicked"), "{panicked}");
    }

    #[test]
    fn a_processor_that_is_not_there_is_an_error_with_a_hint() {
        let (tell, told) = mpsc::channel();
        let ended = move |ended| tell.send(ended).unwrap();
        let thread = spawn_pinned("test".into(), 1 << 20, || async { Ok(()) }, ended).unwrap();
        thread.join().unwrap();
        let error = told.recv().unwrap().unwrap_err();
        assert!(error.starts_with("no executor"), "{error}");
    }
}
