//! Random numbers that are the same in every run: splitmix64, one stream for each concern, so that a
//! draw more in one place does not change what happens in another.

/// One stream of numbers.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The stream called `concern` of a history that is named by `seed`.
    #[must_use]
    pub fn new(seed: u64, concern: &str) -> Self {
        let mut state = 0xcbf2_9ce4_8422_2325_u64;
        for byte in concern.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let mut rng = Self(state ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        rng.draw();
        rng
    }

    /// The next number, any of them.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is at least 1.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// A number from `first` to `last`, both included.
    pub const fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True in `percent` of 100 draws.
    pub const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// An index into something of `length`, which is at least 1.
    pub fn index(&mut self, length: usize) -> usize {
        let length = u64::try_from(length).expect("a length is a u64");
        usize::try_from(self.below(length)).expect("it is below a length")
    }

    /// One of the choices, by weight. The weights' sum is at least 1.
    pub fn weighted<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let sum = choices.iter().map(|(weight, _)| weight).sum();
        let mut at = self.below(sum);
        for (weight, choice) in choices {
            if at < *weight {
                return *choice;
            }
            at -= weight;
        }
        unreachable!("the draw is below the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_repeats_and_differs_from_the_others() {
        let draws = |seed, concern| {
            let mut rng = Rng::new(seed, concern);
            [rng.draw(), rng.draw(), rng.draw()]
        };
        assert_eq!(draws(7, "network"), draws(7, "network"));
        assert_ne!(draws(7, "network"), draws(7, "store"));
        assert_ne!(draws(7, "network"), draws(8, "network"));
    }
}
