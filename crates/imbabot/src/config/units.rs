//! Sizes as a configuration writes them. Lengths of time are those of [`imbabot_bot::units`], rates
//! those of [`imbabot_scheduler::Rate`].

const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Reads `"32MiB"`: a whole number with one of B, KiB, MiB, GiB, KB, MB, GB.
///
/// # Errors
/// A sentence that says what is wrong with the text.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let shown = super::value::quoted(text);
    let wrong = |why: &str| {
        Err(format!("{shown} is not a size: {why}; write it as \"16KiB\", \"32MiB\" or \"1GiB\""))
    };
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if text.starts_with('-') {
        return wrong("it is negative");
    }
    let Ok(number) = number.parse::<u64>() else {
        return wrong("it does not start with a whole number");
    };
    let unit = unit.trim();
    if unit.starts_with(['.', ',']) {
        return wrong("only whole numbers are read");
    }
    if unit.is_empty() {
        return wrong("the unit is missing");
    }
    let Some((_, size)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        return wrong("the unit is unknown");
    };
    match number.checked_mul(*size) {
        Some(bytes) => Ok(bytes),
        None => wrong("it is too large"),
    }
}

/// Writes a size so that [`parse_size`] reads it.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    for (unit, size) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_needs_a_unit() {
        assert_eq!(parse_size("16KiB"), Ok(16_384));
        assert_eq!(parse_size("2MB"), Ok(2_000_000));
        for bad in ["", "5", "KiB", "-1B", "1.5MiB", "5 bytes", "5TB", "99999999999GiB", "NaN"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        for text in ["1GiB", "16KiB", "5B", "512MiB"] {
            assert_eq!(format_size(parse_size(text).unwrap()), text);
        }
    }
}
