//! Numbers for people: rates, sizes, and the one way from integers to floats.

use std::time::Duration;

/// Bytes of a megabyte, as disks and networks count.
const MB: f64 = 1e6;

/// The nearest float.
#[expect(clippy::cast_precision_loss, reason = "shown to people; 53 bits are enough for that")]
pub(crate) const fn float(number: u64) -> f64 {
    number as f64
}

/// Things a second; zero if no time has passed.
pub(crate) fn per_second(count: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { float(count) / seconds } else { 0.0 }
}

/// Megabytes a second.
pub(crate) fn mb_per_second(bytes: u64, time: Duration) -> f64 {
    per_second(bytes, time) / MB
}

/// A number with two decimals, for JSON.
pub(crate) fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// A whole number with commas between its thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate as a whole number with commas.
pub(crate) fn grouped_rate(rate: f64) -> String {
    let whole = format!("{:.0}", rate.max(0.0));
    whole.parse().map_or(whole, grouped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_have_commas() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped_rate(1234.6), "1,235");
    }

    #[test]
    fn no_time_is_no_rate() {
        assert!(per_second(5, Duration::ZERO) < f64::EPSILON);
        assert!((mb_per_second(3_000_000, Duration::from_secs(2)) - 1.5).abs() < 1e-9);
    }
}
