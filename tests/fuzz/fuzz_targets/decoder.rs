//! One decoder of the table, named by `DURAMEN_FUZZ_TARGET`, guided by coverage.

#![no_main]

use std::sync::OnceLock;

use duramen_tests::fuzzing::{Decoder, Verdict, find};
use libfuzzer_sys::fuzz_target;

fn decoder() -> &'static Decoder {
    static DECODER: OnceLock<Decoder> = OnceLock::new();
    DECODER.get_or_init(|| {
        let name = std::env::var("DURAMEN_FUZZ_TARGET").unwrap_or_default();
        find(&name).expect("DURAMEN_FUZZ_TARGET names a decoder")
    })
}

fuzz_target!(|input: &[u8]| {
    let decoder = decoder();
    let mut sealed = input.to_vec();
    // What lies behind a checksum is out of the reach of coverage: inputs are sealed on the way.
    if let Some(seal) = decoder.seal {
        seal(&mut sealed);
    }
    if let Verdict::Broken(what) = (decoder.run)(&sealed) {
        panic!("{}: {what}", decoder.name);
    }
});
