//! `numeric`, as far as counts, averages and lags need it: 38 digits.

use std::cmp::Ordering;

use crate::sql::error::SqlError;

/// A decimal number with its display scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    mantissa: i128,
    scale: u32,
}

fn overflow() -> SqlError {
    SqlError::new("22003", "value overflows numeric format")
}

fn power(n: u32) -> Result<i128, SqlError> {
    10i128.checked_pow(n).ok_or_else(overflow)
}

impl Decimal {
    /// `mantissa / 10^scale`.
    pub fn new(mantissa: i128, scale: u32) -> Decimal {
        Decimal { mantissa, scale }
    }

    /// Reads `-12.50`, `1e3`.
    pub fn parse(text: &str) -> Option<Decimal> {
        let text = text.trim();
        let (number, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok().filter(|e| e.abs() < 38)?),
            None => (text, 0),
        };
        let (negative, digits) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number.strip_prefix('+').unwrap_or(number)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all: String = [whole, fraction].concat();
        if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let mut mantissa: i128 = all.parse().ok()?;
        let mut scale = fraction.len() as i32 - exponent;
        if scale < 0 {
            mantissa = mantissa.checked_mul(10i128.checked_pow(scale.unsigned_abs())?)?;
            scale = 0;
        }
        Some(Decimal { mantissa: if negative { -mantissa } else { mantissa }, scale: scale as u32 })
    }

    pub fn text(self) -> String {
        let digits = format!("{:0>width$}", self.mantissa.unsigned_abs(), width = self.scale as usize + 1);
        let (whole, fraction) = digits.split_at(digits.len() - self.scale as usize);
        let sign = if self.mantissa < 0 { "-" } else { "" };
        if self.scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
    }

    /// Both mantissas at the larger of the two scales.
    fn align(a: Decimal, b: Decimal) -> Result<(i128, i128, u32), SqlError> {
        let scale = a.scale.max(b.scale);
        let lift = |d: Decimal| d.mantissa.checked_mul(power(scale - d.scale)?).ok_or_else(overflow);
        Ok((lift(a)?, lift(b)?, scale))
    }

    pub fn add(self, other: Decimal) -> Result<Decimal, SqlError> {
        let (a, b, scale) = Decimal::align(self, other)?;
        Ok(Decimal { mantissa: a.checked_add(b).ok_or_else(overflow)?, scale })
    }

    pub fn negate(self) -> Decimal {
        Decimal { mantissa: -self.mantissa, scale: self.scale }
    }

    pub fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    pub fn is_negative(self) -> bool {
        self.mantissa < 0
    }

    pub fn mul(self, other: Decimal) -> Result<Decimal, SqlError> {
        let mantissa = self.mantissa.checked_mul(other.mantissa).ok_or_else(overflow)?;
        Ok(Decimal { mantissa, scale: self.scale + other.scale })
    }

    /// Division to the scale that PostgreSQL would choose: 16 significant digits at least.
    pub fn div(self, other: Decimal) -> Result<Decimal, SqlError> {
        if other.mantissa == 0 {
            return Err(SqlError::new("22012", "division by zero"));
        }
        let ((weight1, first1), (weight2, first2)) = (self.weight()?, other.weight()?);
        let weight = weight1 - weight2 - i32::from(first1 <= first2);
        let scale = (16 - weight * 4).max(self.scale as i32).max(other.scale as i32).clamp(0, 36) as u32;
        // self / other = (m1 / m2) * 10^(s2 - s1); one more digit for rounding.
        let shift = scale as i32 + other.scale as i32 - self.scale as i32;
        let (mut numerator, mut denominator) = (self.mantissa, other.mantissa);
        if shift >= 0 {
            numerator = numerator.checked_mul(power(shift as u32)?).ok_or_else(overflow)?;
        } else {
            denominator = denominator.checked_mul(power(shift.unsigned_abs())?).ok_or_else(overflow)?;
        }
        Ok(Decimal { mantissa: divide_half_away(numerator, denominator), scale })
    }

    /// `%`, with the sign of the dividend.
    pub fn rem(self, other: Decimal) -> Result<Decimal, SqlError> {
        let (a, b, scale) = Decimal::align(self, other)?;
        let mantissa = a.checked_rem(b).ok_or_else(|| SqlError::new("22012", "division by zero"))?;
        Ok(Decimal { mantissa, scale })
    }

    /// Position and value of the first base-10000 digit, which is what PostgreSQL looks at.
    fn weight(self) -> Result<(i32, i128), SqlError> {
        let pad = (4 - self.scale % 4) % 4;
        let mut digits = self.mantissa.checked_abs().and_then(|m| m.checked_mul(power(pad).ok()?)).ok_or_else(overflow)?;
        let mut weight = -(((self.scale + pad) / 4) as i32);
        while digits >= 10_000 {
            digits /= 10_000;
            weight += 1;
        }
        Ok((if self.mantissa == 0 { 0 } else { weight }, digits))
    }

    /// `round(x, scale)`: halves away from zero.
    pub fn round(self, scale: i32) -> Result<Decimal, SqlError> {
        if scale >= 0 {
            let scale = scale.min(36) as u32;
            if scale >= self.scale {
                let mantissa = self.mantissa.checked_mul(power(scale - self.scale)?).ok_or_else(overflow)?;
                return Ok(Decimal { mantissa, scale });
            }
            return Ok(Decimal { mantissa: divide_half_away(self.mantissa, power(self.scale - scale)?), scale });
        }
        let unit = power(self.scale.saturating_add(scale.unsigned_abs()))?;
        let back = power(scale.unsigned_abs())?;
        let mantissa = divide_half_away(self.mantissa, unit).checked_mul(back).ok_or_else(overflow)?;
        Ok(Decimal { mantissa, scale: 0 })
    }

    /// `trunc(x, scale)` for a scale of zero or more.
    pub fn truncate(self, scale: u32) -> Result<Decimal, SqlError> {
        if scale >= self.scale {
            return self.round(scale as i32);
        }
        Ok(Decimal { mantissa: self.mantissa / power(self.scale - scale)?, scale })
    }

    /// `floor(x)`; `-floor(-x)` is `ceil(x)`.
    pub fn floor(self) -> Result<Decimal, SqlError> {
        Ok(Decimal { mantissa: self.mantissa.div_euclid(power(self.scale)?), scale: 0 })
    }

    /// The nearest integer.
    pub fn to_i64(self) -> Option<i64> {
        i64::try_from(self.round(0).ok()?.mantissa).ok()
    }

    pub fn to_f64(self) -> f64 {
        self.text().parse().unwrap_or(f64::NAN)
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        Some(match Decimal::align(*self, *other) {
            Ok((a, b, _)) => a.cmp(&b),
            // Too far apart for one scale: the doubles differ enough.
            Err(_) => self.to_f64().partial_cmp(&other.to_f64())?,
        })
    }
}

fn divide_half_away(numerator: i128, denominator: i128) -> i128 {
    // The divisor is never zero: a power of ten, or checked by `div`.
    let quotient = numerator.wrapping_div(denominator);
    let rest = numerator.wrapping_rem(denominator).unsigned_abs();
    let up = rest >= denominator.unsigned_abs() - rest;
    let away = if (numerator < 0) != (denominator < 0) { -1 } else { 1 };
    if up && rest != 0 { quotient + away } else { quotient }
}

/// The collation `PGNUM`.
pub fn compare_texts(a: &str, b: &str) -> Ordering {
    match (Decimal::parse(a), Decimal::parse(b)) {
        (Some(a), Some(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        // NaN and what else is no number sorts last, by its bytes.
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}
