//! Numbers as JSON has them: decimals of any size, kept to the last digit.
//!
//! JSON libraries read numbers into 64 bits, in which 9007199254740993 and 9007199254740992.0 are
//! one number. Here no digit is lost, and numbers that are equal (`1`, `1.0`, `10e-1`) have one
//! text.

use std::cmp::Ordering;
use std::fmt;

/// Up to so many digits before the point a number is written without exponent: more than 128 bits
/// have.
const PLAIN_DIGITS: i64 = 40;
/// Up to so many zeros behind the point, too.
const PLAIN_ZEROS: i64 = 6;
/// The largest exponent.
const EXPONENT_MAX: i64 = 1_000_000;

/// A number: `0.DIGITS` times ten to the power of `point`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    /// Neither begins nor ends with 0; nothing is the number 0.
    digits: String,
    point: i64,
}

impl Decimal {
    /// A number of these digits before and behind the point; `None` if its exponent is too large.
    pub(crate) fn of(negative: bool, whole: &str, part: &str, exponent: &str) -> Option<Self> {
        let exponent: i64 = if exponent.is_empty() { 0 } else { exponent.parse().ok()? };
        let all = [whole, part].concat();
        let digits = all.trim_start_matches('0');
        let zeros = (all.len() - digits.len()) as i64;
        let digits = digits.trim_end_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Decimal { negative: false, digits, point: 0 });
        }
        let point = (whole.len() as i64 - zeros).checked_add(exponent)?;
        (point.abs() <= EXPONENT_MAX).then_some(Decimal { negative, digits, point })
    }

    /// Whether it is below 0.
    pub fn is_negative(&self) -> bool {
        self.negative
    }
}

impl From<u64> for Decimal {
    fn from(number: u64) -> Self {
        let digits = number.to_string();
        let point = if number == 0 { 0 } else { digits.len() as i64 };
        let digits = digits.trim_end_matches('0').to_owned();
        Decimal { negative: false, digits, point }
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |it: &Self| match (it.digits.is_empty(), it.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        // Behind a common point digits are ordered like texts.
        let size = (self.point, &self.digits).cmp(&(other.point, &other.digits));
        let size = if self.negative { size.reverse() } else { size };
        sign(self).cmp(&sign(other)).then(size)
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (digits, point) = (&*self.digits, self.point);
        let length = digits.len() as i64;
        if self.negative {
            f.write_str("-")?;
        }
        let zeros = |n: i64| "0".repeat(usize::try_from(n).unwrap_or_default());
        if digits.is_empty() {
            f.write_str("0")
        } else if (1..=PLAIN_DIGITS).contains(&point) {
            if length <= point {
                write!(f, "{digits}{}", zeros(point - length))
            } else {
                // Digits are ASCII, and the point is inside of them.
                let (whole, part) = digits.split_at(point as usize);
                write!(f, "{whole}.{part}")
            }
        } else if (1 - PLAIN_ZEROS..=0).contains(&point) {
            write!(f, "0.{}{digits}", zeros(-point))
        } else {
            let (first, rest) = digits.split_at(1);
            let dot = if rest.is_empty() { "" } else { "." };
            write!(f, "{first}{dot}{rest}e{}", point - 1)
        }
    }
}
