//! Zigzag variable-length integers, as record fields use them (Protocol Buffers' `sint`).

/// Appends a 64-bit zigzag varint.
pub(crate) fn put(buffer: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        buffer.push(low_seven(rest) | 0x80);
        rest >>= 7;
    }
    buffer.push(low_seven(rest));
}

/// Bytes that [`put`] appends for this value.
pub(crate) const fn len(value: i64) -> usize {
    let bits = 64 - zigzag(value).leading_zeros() as usize;
    if bits == 0 { 1 } else { bits.div_ceil(7) }
}

/// Reads a 64-bit varint from the front; `None` if it is cut short or longer than ten bytes.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<i64> {
    let mut raw: u64 = 0;
    let mut shift = 0;
    loop {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        raw |= part << shift;
        if byte & 0x80 == 0 {
            return Some(unzigzag(raw));
        }
        shift += 7;
        if shift > 63 {
            return None;
        }
    }
}

/// Reads a varint that must fit 32 bits.
pub(crate) fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    i32::try_from(take(bytes)?).ok()
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn unzigzag(raw: u64) -> i64 {
    (raw >> 1).cast_signed() ^ -((raw & 1).cast_signed())
}

const fn low_seven(value: u64) -> u8 {
    (value & 0x7f) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_numbers_take_one_byte_and_known_values_have_known_bytes() {
        for (value, expected) in [
            (0_i64, vec![0x00]),
            (-1, vec![0x01]),
            (1, vec![0x02]),
            (63, vec![0x7e]),
            (-64, vec![0x7f]),
            (64, vec![0x80, 0x01]),
            (i64::from(i32::MAX), vec![0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MIN, vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ] {
            let mut buffer = Vec::new();
            put(&mut buffer, value);
            assert_eq!(buffer, expected, "{value}");
        }
    }

    #[test]
    fn a_varint_that_never_ends_is_refused() {
        assert_eq!(take(&mut [0x80_u8; 11].as_slice()), None);
        assert_eq!(take(&mut [0xff_u8, 0xff].as_slice()), None);
        let too_wide = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(take(&mut too_wide.as_slice()), None);
    }

    proptest! {
        #[test]
        fn every_number_round_trips_in_the_length_foretold(value: i64) {
            let mut buffer = Vec::new();
            put(&mut buffer, value);
            prop_assert_eq!(buffer.len(), len(value));
            let mut rest = buffer.as_slice();
            prop_assert_eq!(take(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }
    }
}
