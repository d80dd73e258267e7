//! Waiting for something to hold: asked again until it does, or a deadline has passed.

use std::time::Duration;

use tokio::time::Instant;

use super::{Failure, Outcome};

/// Generous: a debug build beside other builds on two cores. What takes longer hangs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Wait between two questions.
const INTERVAL: Duration = Duration::from_millis(50);

/// How long one question may take.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);

/// Asks until the answer is `Ok`.
///
/// # Errors
/// The last answer, if [`DEADLINE`] passed before.
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Outcome<T>) -> Outcome<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = match tokio::time::timeout(ATTEMPT_MAX, attempt()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => Failure::from("no answer in time"),
        };
        if Instant::now() >= deadline {
            let after = DEADLINE.as_secs();
            return Err(format!("{what}: not within {after}s; at last: {answer}").into());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
