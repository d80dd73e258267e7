//! The files and texts that the command reads, for the fuzzer.

use bytes::Bytes;
use duramen_env::fuzz::{Decoder, MemoryLimit, Verdict};

use crate::commands::produce::fuzz_line;
use crate::commands::replay::fuzz_state;
use crate::render::Template;
use crate::server::read_config;
use crate::time::{TimeSpec, parse_instant, show};

/// A configuration, lines to produce, the state of a replay, times and templates.
pub const DECODERS: &[Decoder] = &[
    Decoder {
        name: "server-config",
        run: |bytes| text(bytes, read_config),
        seeds: || vec![CONFIG.as_bytes().to_vec()],
        seal: None,
        memory: MemoryLimit::MESSAGES,
    },
    Decoder {
        name: "produce-line",
        run: |bytes| verdict(fuzz_line(&Bytes::copy_from_slice(bytes))),
        seeds: || LINES.iter().map(|line| line.as_bytes().to_vec()).collect(),
        seal: None,
        memory: MemoryLimit::MESSAGES,
    },
    Decoder {
        name: "replay-state",
        run: |bytes| match fuzz_state::reload(bytes) {
            None => Verdict::Refused,
            Some(true) => Verdict::Accepted,
            Some(false) => Verdict::Broken("a state is not read as it was written"),
        },
        seeds: || vec![fuzz_state::seed()],
        seal: None,
        memory: MemoryLimit::MESSAGES,
    },
    Decoder {
        name: "time",
        run: |bytes| text(bytes, |text| TimeSpec::parse(text).is_ok()),
        seeds: || TIMES.iter().map(|time| time.as_bytes().to_vec()).collect(),
        seal: None,
        memory: MemoryLimit::FIELDS,
    },
    Decoder {
        name: "shown-time",
        run: shown_time,
        seeds: || vec![1_517_363_399_650_i64.to_le_bytes().to_vec()],
        seal: None,
        memory: MemoryLimit::FIELDS,
    },
    Decoder {
        name: "template",
        run: |bytes| text(bytes, |text| Template::parse(text, "null").is_ok()),
        seeds: || vec![br"{topic}-{partition}@{offset} {{{header:a}}}\t\n".to_vec()],
        seal: None,
        memory: MemoryLimit { base: 64 << 10, per_byte: 64 },
    },
];

const CONFIG: &str = r#"id = 1
dir = "/var/lib/duramen"
listen = "127.0.0.1:7650"
http_listen = "off"
seed = ["127.0.0.1:7650", "127.0.0.1:7660"]
disk_reserve_bytes = 268435456
group_assignor = "range"
log = "info"
log_format = "json"
"#;

const LINES: [&str; 2] = [
    r#"{"id":"uw61","time":1517363399650,"in":{"k":"deep"}}"#,
    r#" {"id":7,"time":"2018-01-31T01:49:59.650Z","in":{"k":null}} "#,
];

const TIMES: [&str; 5] =
    ["2018-02-01T12:00:00Z", "2018-02-01", "1517363399650", "2h 30m ago", "2018-02-01T12:00:00"];

fn verdict(accepted: bool) -> Verdict {
    if accepted { Verdict::Accepted } else { Verdict::Refused }
}

fn text(bytes: &[u8], read: fn(&str) -> bool) -> Verdict {
    str::from_utf8(bytes).map_or(Verdict::Refused, |text| verdict(read(text)))
}

/// Any time that a record may carry is shown in a form that is read as the same time.
fn shown_time(bytes: &[u8]) -> Verdict {
    let Some(bytes) = bytes.first_chunk() else { return Verdict::Refused };
    let time = duramen_client::Timestamp::from_millis(i64::from_le_bytes(*bytes));
    if parse_instant(&show(time)) == Some(time) {
        Verdict::Accepted
    } else {
        Verdict::Broken("a shown time is read as another one")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_accepted() {
        for decoder in DECODERS {
            for seed in (decoder.seeds)() {
                assert_eq!((decoder.run)(&seed), Verdict::Accepted, "{} {seed:?}", decoder.name);
            }
        }
    }
}
