//! How many threads run what never blocks.

use std::ffi::OsStr;

use crate::error::CliError;
use crate::limits;

/// Half of the cores, unless a variable says otherwise. The other half has the disks' threads and
/// the system's network to run; with a thread for each core, work changes threads more often than
/// it is worth.
///
/// # Errors
/// If the variable says anything but a number of threads.
pub(crate) fn asynchronous() -> Result<usize, CliError> {
    let chosen = std::env::var_os(limits::THREADS_VARIABLE);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(choice(chosen.as_deref())?.unwrap_or(cores.div_ceil(2)))
}

/// What the variable says; nothing if it is empty.
fn choice(text: Option<&OsStr>) -> Result<Option<usize>, CliError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let count = text.to_str().and_then(|text| text.parse().ok());
    match count.filter(|count| (1..=limits::THREADS_MAX).contains(count)) {
        Some(count) => Ok(Some(count)),
        None => Err(CliError::Usage(format!(
            "{} is {text:?}: give a number of threads from 1 to {}, or leave it out for half of \
             the cores",
            limits::THREADS_VARIABLE,
            limits::THREADS_MAX,
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_threads_is_taken_and_nothing_means_the_default() {
        let chosen = |text: &str| choice(Some(text.as_ref())).unwrap();
        assert_eq!(choice(None).unwrap(), None);
        assert_eq!(["", "1", "1024"].map(chosen), [None, Some(1), Some(1024)]);
    }

    #[test]
    fn what_is_no_number_of_threads_is_refused_with_what_is_allowed() {
        for text in ["0", "1025", "-1", "four", "2.5", " 2", "99999999999999999999999"] {
            let error = choice(Some(text.as_ref())).unwrap_err();
            let said = error.full_text();
            assert!(said.contains("TOKIO_WORKER_THREADS is"), "{said}");
            assert!(said.contains(text) && said.contains("from 1 to 1024"), "{said}");
        }
    }
}
