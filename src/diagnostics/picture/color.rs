//! The colours of boxes.

use std::fmt;

/// The meaning of the colours of the boxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ColorBy {
    /// Tasks of one function have one colour; so do tasks with given names that differ in numbers
    /// only.
    #[default]
    Name,
    /// The rank of the tasks in the graph's plan, from light to dark: the order in which a single
    /// worker would run them.
    Rank,
    /// All boxes have one colour.
    Nothing,
}

/// A colour.
///
/// # Examples
/// ```
/// use sprang::picture::Color;
///
/// assert_eq!(Color::rgb(255, 128, 0).to_string(), "#ff8000");
/// assert_ne!(Color::scale(0.0), Color::scale(1.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Color {
    red: u8,
    green: u8,
    blue: u8,
}

/// From light to dark, in even steps of perceived lightness, and distinct for viewers who cannot
/// tell red from green.
const SCALE: [Color; 7] = [
    Color::rgb(0xfb, 0xf3, 0xb4),
    Color::rgb(0xc9, 0xe4, 0xa6),
    Color::rgb(0x8b, 0xcf, 0xa9),
    Color::rgb(0x52, 0xb2, 0xad),
    Color::rgb(0x37, 0x8f, 0xa9),
    Color::rgb(0x35, 0x69, 0x98),
    Color::rgb(0x36, 0x3f, 0x7a),
];

/// Each is light enough for black text.
const FAMILIES: [Color; 12] = [
    Color::rgb(0xbd, 0xd9, 0xf6),
    Color::rgb(0xff, 0xd8, 0xa6),
    Color::rgb(0xc2, 0xe8, 0xbf),
    Color::rgb(0xf6, 0xc4, 0xc4),
    Color::rgb(0xdb, 0xcc, 0xf2),
    Color::rgb(0xf4, 0xee, 0xa6),
    Color::rgb(0xb6, 0xe6, 0xe3),
    Color::rgb(0xf6, 0xca, 0xe4),
    Color::rgb(0xe6, 0xd2, 0xbc),
    Color::rgb(0xd6, 0xe7, 0xa3),
    Color::rgb(0xc6, 0xcd, 0xfa),
    Color::rgb(0xd8, 0xdc, 0xe1),
];

impl Color {
    pub(super) const PLAIN: Color = Color::rgb(0xee, 0xf1, 0xf5);

    /// The colour with these components.
    pub const fn rgb(red: u8, green: u8, blue: u8) -> Color {
        Color { red, green, blue }
    }

    /// The colour for a value from 0 (light) to 1 (dark). Smaller values and NaN count as 0, larger
    /// ones as 1.
    pub fn scale(value: f64) -> Color {
        let place = if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) * (SCALE.len() - 1) as f64 };
        let below = (place as usize).min(SCALE.len() - 2);
        SCALE[below].towards(SCALE[below + 1], place - below as f64)
    }

    /// The colour of the `index`-th item of an unordered set. The 12 colours repeat.
    pub const fn of_index(index: usize) -> Color {
        FAMILIES[index % FAMILIES.len()]
    }

    fn towards(self, other: Color, part: f64) -> Color {
        let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * part).round() as u8;
        Color::rgb(mix(self.red, other.red), mix(self.green, other.green), mix(self.blue, other.blue))
    }

    /// Whether white text is more readable on this colour than black text.
    pub(super) fn is_dark(self) -> bool {
        // The weights of perceived brightness, on gamma-encoded values, where the middle between
        // black and white is at about 140.
        u32::from(self.red) * 299 + u32::from(self.green) * 587 + u32::from(self.blue) * 114 < 140_000
    }

    /// The colour of the border of a box.
    pub(super) fn darker(self) -> Color {
        self.towards(Color::rgb(0x20, 0x28, 0x38), 0.45)
    }

    /// The colour of a line drawn on a box.
    pub(super) fn line_on(self) -> Color {
        if self.is_dark() { self.towards(Color::rgb(255, 255, 255), 0.6) } else { self.darker() }
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.red, self.green, self.blue)
    }
}

/// The paint of one box: a colour, and a note below the name.
///
/// # Examples
/// ```
/// use sprang::picture::{Color, Tint};
///
/// let tint = Tint::from(Color::scale(0.4)).note("12 ms");
/// assert_eq!(tint, Tint::default().color(Color::scale(0.4)).note("12 ms"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tint {
    pub(super) color: Option<Color>,
    pub(super) note: Option<String>,
}

impl Tint {
    /// Sets the colour of the box.
    #[must_use]
    pub fn color(mut self, color: Color) -> Tint {
        self.color = Some(color);
        self
    }

    /// Sets the note below the name.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Tint {
        self.note = Some(note.into());
        self
    }
}

impl From<Color> for Tint {
    fn from(color: Color) -> Tint {
        Tint::default().color(color)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_grows_darker_and_takes_any_number() {
        let light = |c: Color| u32::from(c.red) * 299 + u32::from(c.green) * 587 + u32::from(c.blue) * 114;
        let shades: Vec<u32> = (0..=100).map(|i| light(Color::scale(f64::from(i) / 100.0))).collect();
        assert!(shades.is_sorted_by(|a, b| a > b));
        assert_eq!(Color::scale(f64::NAN), Color::scale(0.0));
        assert_eq!(Color::scale(f64::NEG_INFINITY), Color::scale(0.0));
        assert_eq!(Color::scale(f64::INFINITY), Color::scale(1.0));
    }

    #[test]
    fn families_have_colours_for_black_text() {
        assert!((0..FAMILIES.len()).all(|i| !Color::of_index(i).is_dark()));
        assert!(Color::scale(1.0).is_dark() && !Color::scale(0.0).is_dark());
    }
}
