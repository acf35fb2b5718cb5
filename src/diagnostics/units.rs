//! Durations, counts and sizes as text for people.

use std::time::Duration;

/// A duration with three digits, or in two units: `12.3 ms`, `4 min 20 s`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        _ if seconds < 0.999_5e-6 => format!("{} ns", duration.as_nanos()),
        _ if seconds < 0.999_5e-3 => three_digits(seconds * 1e6, "µs"),
        _ if seconds < 0.999_5 => three_digits(seconds * 1e3, "ms"),
        _ if seconds < 99.95 => three_digits(seconds, "s"),
        _ if seconds < 3_599.5 => {
            let whole = seconds.round() as u64;
            format!("{} min {} s", whole / 60, whole % 60)
        }
        _ => {
            let minutes = (seconds / 60.0).round() as u64;
            format!("{} h {} min", minutes / 60, minutes % 60)
        }
    }
}

fn three_digits(value: f64, unit: &str) -> String {
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}

/// A count in groups of three digits, separated by narrow spaces: `1 234 567`.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A size in binary units, with up to three digits: `1.50 KiB`.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        _ => {
            let power = (bytes.ilog2() / 10).min(6);
            let value = bytes as f64 / 1_024_f64.powi(power as i32);
            three_digits(value, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][power as usize])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_or_two_units() {
        let text = |seconds: f64| duration(Duration::from_secs_f64(seconds));
        assert_eq!(duration(Duration::from_nanos(870)), "870 ns");
        assert_eq!(text(1.5e-6), "1.50 µs");
        assert_eq!(text(0.012_34), "12.3 ms");
        assert_eq!(text(0.999_7), "1.00 s");
        assert_eq!(text(99.96), "1 min 40 s");
        assert_eq!(text(259.7), "4 min 20 s");
        assert_eq!(text(3_599.7), "1 h 0 min");
        assert_eq!(text(7_505.0), "2 h 5 min");
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_536), "1.50 KiB");
        assert_eq!(bytes(150 << 20), "150 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(7), "7");
        assert_eq!(count(1_234), "1\u{202f}234");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
