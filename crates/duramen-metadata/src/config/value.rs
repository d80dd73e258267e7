//! Numbers as people write them: sizes and times with units.

/// Suffixes of sizes and what they multiply by. Both `KB` and `kB` are 1000, as in SI.
const SIZE_UNITS: [(&str, u64); 15] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("pib", 1 << 50),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("pb", 1_000_000_000_000_000),
    ("ki", 1 << 10),
    ("mi", 1 << 20),
    ("gi", 1 << 30),
    ("ti", 1 << 40),
    ("b", 1),
];

/// Bytes: a whole number, with a unit or without.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let factor = match unit.as_str() {
        "" => 1,
        unit => SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Milliseconds: a whole number, or a time such as `7d` or `1h 30m`.
pub(super) fn parse_millis(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    u64::try_from(humantime::parse_duration(text).ok()?.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        assert_eq!(parse_bytes("4096"), Some(4096));
        assert_eq!(parse_bytes("1 KiB"), Some(1024));
        assert_eq!(parse_bytes("1kB"), Some(1000));
        assert_eq!(parse_bytes("2Gi"), Some(2 << 30));
        for bad in ["", "KiB", "-1", "1.5GiB", "1 parsec", "99999999999PiB", "1_000"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_have_units_from_milliseconds_to_years() {
        assert_eq!(parse_millis("250"), Some(250));
        assert_eq!(parse_millis("250ms"), Some(250));
        assert_eq!(parse_millis("1h 30m"), Some(5_400_000));
        assert_eq!(parse_millis("7d"), Some(604_800_000));
        for bad in ["", "-1", "d", "7 moons", "99999999999999999999"] {
            assert_eq!(parse_millis(bad), None, "{bad}");
        }
    }
}
