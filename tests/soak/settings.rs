//! What the environment says about the soak.

/// A variable that is a number; `None` if it is absent or empty.
pub(crate) fn number(name: &str) -> Option<u32> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    let number: Result<u32, _> = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}: {text:?} is not a number")))
}
