//! Numbers that look random and are the same in every replay.

/// The splitmix64 finalizer: spreads a number over all 64 bits.
pub(crate) const fn mix(number: u64) -> u64 {
    let mut z = number;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Folds bytes into 64 bits.
pub(crate) fn of_bytes(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(1, |sum, byte| mix(sum ^ (u64::from(*byte) + 1)))
}
