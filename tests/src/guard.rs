//! Panics of the code under test, as findings: caught where they unwind; where they end the
//! process, the command that repeats them is printed first.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use duramen_env::planted::{Planted, is_planted};

use crate::campaign::progress;

thread_local! {
    static REPEAT: RefCell<Option<String>> = const { RefCell::new(None) };
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs work that should not panic; the error is what the panic said.
///
/// # Errors
/// What a panic said.
pub fn run<T>(repeat: &str, work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(install);
    REPEAT.with_borrow_mut(|current| *current = Some(repeat.to_owned()));
    let outcome = catch_unwind(AssertUnwindSafe(work));
    REPEAT.with_borrow_mut(|current| *current = None);
    outcome.map_err(|_| SAID.take())
}

fn install() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let repeat = REPEAT.with_borrow(Option::clone);
        let Some(repeat) = repeat else { return before(panic) };
        let said = panic.to_string();
        if cfg!(panic = "abort") {
            progress(format_args!("FAILED: a panic: {said}\n  repeat: {repeat}"));
        }
        SAID.set(said);
    }));
}

/// Gives this process a bug, for good.
///
/// # Errors
/// If there is no such bug, or this build has none.
pub fn plant(name: &str) -> Result<(), String> {
    let Some(bug) = Planted::parse(name) else { return Err(format!("there is no bug {name:?}")) };
    plant_bug(bug);
    if is_planted(bug) { Ok(()) } else { Err("this build has no planted bugs".into()) }
}

#[cfg(feature = "planted")]
use duramen_env::planted::plant as plant_bug;

#[cfg(not(feature = "planted"))]
fn plant_bug(_: Planted) {}
